"""Many runs: kept in a folder, planned, trained where they lack, gone on with where they were cut off."""
