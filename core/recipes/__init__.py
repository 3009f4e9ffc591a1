"""What is trained and how, as data: recipes, sources of cases, splits, gates. Free of torch."""
