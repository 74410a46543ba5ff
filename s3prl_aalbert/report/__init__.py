"""Tables, figures and the report, computed from finished runs."""
