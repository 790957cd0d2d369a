//! The functions that come with the program.

/// One of them.
#[derive(Debug)]
pub(crate) struct Function {
    /// Its name.
    pub(crate) name: &'static str,
    /// Its `lambda_function.py`.
    pub(crate) source: &'static str,
    /// Its `function.toml`.
    pub(crate) settings: &'static str,
    /// What it is called with. The answer depends on nothing else.
    pub(crate) event: &'static str,
    /// A module that it needs and that not every Python has.
    pub(crate) module: Option<&'static str>,
}

/// Reads a function from the examples, at build time.
macro_rules! example {
    ($name:literal, $module:expr) => {
        Function {
            name: $name,
            source: include_str!(concat!("../../../../examples/functions/", $name, "/lambda_function.py")),
            settings: include_str!(concat!("../../../../examples/functions/", $name, "/function.toml")),
            event: r#"{"n": 3}"#,
            module: $module,
        }
    };
}

/// All of them, in the order of the table.
pub(crate) const BUNDLED: &[Function] = &[
    example!("hello", None),
    example!("html", None),
    example!("objects", None),
    example!("numpy", Some("numpy")),
    example!("pandas", Some("pandas")),
];
