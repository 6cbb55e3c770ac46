"""What people look at: tables, plots and a page of records."""
