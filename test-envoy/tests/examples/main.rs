//! The files below examples/: that each does what its page shows.

mod pages;
