"""From photos as they lie somewhere to photos that are known, grouped and split."""
