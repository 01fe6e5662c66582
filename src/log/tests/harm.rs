//! Flips, cuts, forgeries: what each of them may cost.
