//! The functions that come with the program.

/// One of them.
#[derive(Debug)]
pub(crate) struct Function {
    /// Its name.
    pub(crate) name: &'static str,
    /// Its `lambda_function.py`.
    pub(crate) source: &'static str,
    /// What it is called with. The answer depends on nothing else.
    pub(crate) event: &'static str,
    /// A module that it needs and that not every Python has.
    pub(crate) module: Option<&'static str>,
}

/// All of them, in the order of the table.
pub(crate) const BUNDLED: &[Function] = &[];
