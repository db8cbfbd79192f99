"""The search itself: who is born, who lives, who is crowned, from a store, an operator and an evaluator."""
