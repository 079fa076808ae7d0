"""Pictures of figures, drawn by matplotlib. Importing it takes half a second: only when needed."""
