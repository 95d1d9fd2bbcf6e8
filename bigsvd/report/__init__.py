"""What a result looks like to a person: the rank table as text, the rank plot."""
