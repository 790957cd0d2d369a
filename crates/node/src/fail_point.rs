//! Places where a test lets the node die. In release builds they do not exist.

/// Dies as by `kill -9` if `DORMOUSE_DIE_AT` names this point, or names it with a count (`name:3`: the third time).
#[cfg(debug_assertions)]
pub(crate) fn reach(point: &str) {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    static ARMED: OnceLock<Option<(String, u64)>> = OnceLock::new();
    static REACHED: AtomicU64 = AtomicU64::new(0);
    let armed = ARMED.get_or_init(|| {
        let text = std::env::var("DORMOUSE_DIE_AT").ok()?;
        let (name, count) = text.split_once(':').unwrap_or((&text, "1"));
        Some((name.to_owned(), count.parse().unwrap_or(1)))
    });
    if let Some((name, count)) = armed
        && name == point
        && REACHED.fetch_add(1, Ordering::Relaxed) + 1 == *count
    {
        let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
        std::thread::park(); // The signal comes within this system call's return; never go on.
    }
}

/// Nothing.
#[cfg(not(debug_assertions))]
pub(crate) fn reach(_point: &str) {}
