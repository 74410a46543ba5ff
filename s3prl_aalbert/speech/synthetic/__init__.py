"""Speech that needs no recording: voices for the demo and the tests."""
