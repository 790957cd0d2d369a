//! Decides what is to happen to which sandbox; does none of it. No I/O, no clock, no randomness: time comes in
//! with every event, so the same code runs a server and a simulation, and a run can be repeated.
//!
//! `brain` keeps the books, `policy` holds the opinions (when to sleep, to purge, to start).

mod brain;
mod deadlines;
mod event;
mod policy;
mod sandbox;

pub use brain::{Brain, Provisioned};
pub use event::{Action, Event, Origin, StartId, Why};
pub use policy::{Beyond, Demand, FunctionPlan, Policy};
