"""Everything dies and no job is lost: overlapping faults, and a checker that reads what is left."""
