"""Many runs: find them below a folder, index them, filter them, put them into one table, remove them."""
