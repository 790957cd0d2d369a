//! Measurements in, tables and charts out. Nothing here reads a clock, a file or a terminal: what is to be shown
//! comes in as records, what is shown goes out as text.

pub mod bench;
pub mod chart;
pub mod demo;
pub mod encode;
pub mod encode_chart;
pub mod functions;
pub mod merge;
pub mod merge_chart;
pub mod node;
pub mod ps;
pub mod quantity;
mod scale;
pub mod soak;
pub mod stats;
pub mod table;
pub mod top;
