"""How each kind of Keras layer and operation is computed a frame at a time."""
