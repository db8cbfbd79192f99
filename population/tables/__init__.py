"""What a store holds, one class a kind of event. All are reached through `Store`."""
