//! Places where a test lets the node die, or a driver panic. In release builds they do not exist.

/// Dies as by `kill -9` if `DORMOUSE_DIE_AT` names this point, panics if `DORMOUSE_PANIC_AT` does; with a count
/// (`name:3`) only the third time.
#[cfg(debug_assertions)]
pub fn reach(point: &str) {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    struct Armed {
        point: String,
        count: u64,
        panics: bool,
    }

    fn armed(variable: &str, panics: bool) -> Option<Armed> {
        let text = std::env::var(variable).ok()?;
        let (point, count) = text.split_once(':').unwrap_or((&text, "1"));
        Some(Armed { point: point.to_owned(), count: count.parse().unwrap_or(1), panics })
    }

    static ARMED: OnceLock<Option<Armed>> = OnceLock::new();
    static REACHED: AtomicU64 = AtomicU64::new(0);
    let armed =
        ARMED.get_or_init(|| armed("DORMOUSE_DIE_AT", false).or_else(|| armed("DORMOUSE_PANIC_AT", true)));
    let Some(armed) = armed.as_ref().filter(|armed| armed.point == point) else { return };
    if REACHED.fetch_add(1, Ordering::Relaxed) + 1 != armed.count {
        return;
    }
    #[expect(clippy::panic, reason = "a test wants to see what a panic does")]
    if armed.panics {
        panic!("as DORMOUSE_PANIC_AT says");
    }
    let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
    std::thread::park(); // The signal comes within this system call's return; never go on.
}

/// Nothing.
#[cfg(not(debug_assertions))]
pub fn reach(_point: &str) {}
