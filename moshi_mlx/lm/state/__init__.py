"""The state of a conversation as a thing: kept, written, read, and gone on from."""
