//! Specimens: processes with known memory, for tests only. Starts them, talks to them, and counts what is left on
//! the machine. Whether a sleep was right, the tests decide.

mod census;
mod line;
mod specimen;
mod subject;
mod worker;

pub use census::{Census, belongings, census};
pub use specimen::{ANSWER_WITHIN, Specimen, SpecimenError, until};
pub use subject::{Subject, built, workspace_root};
pub use worker::{
    python, require, require_java, require_node, require_promtool, require_python, require_root,
};
