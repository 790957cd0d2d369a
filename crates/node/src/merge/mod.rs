//! Pages that awake sandboxes have in common, made one.

mod advice;
mod board;

pub use advice::AdviceCounts;
pub(crate) use advice::Desk;
pub use board::Advice;
pub(crate) use board::Board;
