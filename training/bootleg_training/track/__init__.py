"""What a run leaves to be read: its record, trackers, and the report page."""
