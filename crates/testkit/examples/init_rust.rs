//! The function that `dormouse init rust` makes, built here because all that it needs is: tests serve it.

include!("../../dormouse/src/init/rust/src/main.rs.in");
