"""The offline operator: children by syntax trees, without a language model (`offline.OfflineOperator`)."""
