"""What lint looks at: a closed set of findings, one small rule each."""
