"""What torchlime costs: see README.md for the contract."""
