//! What a program says of its memory to the agent that merges it: ranges of whole pages, in one datagram. `libdormouse`
//! writes them inside of any program, so nothing here allocates, blocks or panics; the agent reads what anybody may have
//! written, so each datagram is understood whole or refused.
//!
//! All numbers are little-endian:
//!
//! | at | bytes | what |
//! |---|---|---|
//! | 0 | 4 | `dmad` |
//! | 4 | 1 | version, 1 |
//! | 5 | 1 | wish: 1 merge, 2 leave |
//! | 6 | 2 | how many ranges follow: 1 to `RANGES_MAX` |
//! | 8 + 16 n | 8 | address of the first byte of a range, aligned to a page |
//! | 16 + 16 n | 8 | its length in bytes, whole pages, at least one |

#![forbid(unsafe_code)]

mod message;
mod range;

pub use message::{BYTES_MAX, Malformed, Message, RANGES_MAX, Wish, encode};
pub use range::{NoRange, PAGE_BYTES, Range};
