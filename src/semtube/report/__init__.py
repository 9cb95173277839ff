"""Reports: tables and figures made from stored run results."""
