"""What can be wrong with data, as pure functions, and the page that shows it."""
