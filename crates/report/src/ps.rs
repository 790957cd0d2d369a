//! Sandbox records as the table of `dormouse ps`.

use protocol::{Account, SandboxRecord};

use crate::quantity::{age, bytes, signed_bytes};
use crate::table::{Column, Table};

/// The table of `dormouse ps`: a line for each sandbox, and their sum when there are several.
pub fn table(sandboxes: &[SandboxRecord], width: usize) -> String {
    if sandboxes.is_empty() {
        return "no sandboxes\n".to_owned();
    }
    let mut table = Table::new(columns());
    let mut sum = Account::default();
    for sandbox in sandboxes {
        table.row(row(sandbox));
        sum.add(&sandbox.account);
    }
    if sandboxes.len() > 1 {
        let mut cells = vec![String::new(), "all".to_owned()];
        cells.resize(6, String::new());
        cells.extend(amounts(&sum));
        table.row(cells);
    }
    for sandbox in sandboxes {
        if let Some(why) = &sandbox.left_warm {
            table.note(&format!("sandbox {} ({}) was left warm: {why}", sandbox.id, sandbox.name));
        }
    }
    table.render(width)
}

fn columns() -> Vec<Column> {
    vec![
        Column::right("id"),
        Column::left("function").shrinking(),
        Column::left("state"),
        Column::left("depth").optional(4),
        Column::right("age").optional(6),
        Column::right("pid").optional(5),
        Column::right("resident"),
        Column::right("shared").optional(3),
        Column::right("in store").optional(8),
        Column::right("identical").optional(2),
        Column::right("patched").optional(1),
        Column::right("packed").optional(1),
        Column::right("whole").optional(0),
        Column::right("manifest").optional(4),
        Column::right("kernel").optional(7),
        Column::right("kept"),
        Column::right("saved"),
    ]
}

fn row(sandbox: &SandboxRecord) -> Vec<String> {
    let mut cells = vec![
        sandbox.id.to_string(),
        sandbox.name.clone(),
        sandbox.state.to_string(),
        sandbox.depth_reached().map(|depth| depth.to_string()).unwrap_or_default(),
        age(sandbox.state_age_ms),
        sandbox.pid.to_string(),
    ];
    cells.extend(amounts(&sandbox.account));
    cells
}

fn amounts(account: &Account) -> [String; 11] {
    [
        bytes(account.resident_bytes),
        bytes(account.shared_bytes),
        bytes(account.store_bytes()),
        bytes(account.store_identical_bytes),
        bytes(account.store_patched_bytes),
        bytes(account.store_packed_bytes),
        bytes(account.store_whole_bytes),
        bytes(account.manifest_bytes),
        bytes(account.page_table_bytes + account.kernel_bytes),
        bytes(account.kept_bytes()),
        signed_bytes(account.saved_bytes()),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::{Depth, SandboxId, SleepRecord, State};

    fn sandbox(id: u64, name: &str, state: State, left_warm: Option<&str>) -> SandboxRecord {
        let account = Account {
            warm_bytes: 54 << 20,
            resident_bytes: if state == State::Dedup { 4096 } else { 54 << 20 },
            shared_bytes: 28 << 20,
            store_identical_bytes: 1 << 19,
            page_table_bytes: 240 << 10,
            kernel_bytes: 200 << 10,
            ..Account::default()
        };
        SandboxRecord {
            id: SandboxId(id),
            name: name.to_owned(),
            state,
            pid: 4000 + id as i32,
            depth: Depth::Deep,
            account,
            state_age_ms: 12_000,
            invocations: 3,
            sleeps: 1,
            wakes: 0,
            left_warm: left_warm.map(str::to_owned),
            last_sleep: None,
            last_wake: None,
        }
    }

    #[track_caller]
    fn check(sandboxes: &[SandboxRecord], width: usize, expected: &str) {
        assert_eq!(table(sandboxes, width), expected);
    }

    #[test]
    fn in_eighty_columns_what_it_costs_and_saves_remains() {
        let two = [
            sandbox(1, "pandas", State::Dedup, None),
            sandbox(2, "pandas", State::Warm, Some("io_uring buffers")),
        ];
        check(
            &two,
            80,
            "\
id  function  state   age   pid  resident  in store   kernel      kept     saved
 1  pandas    dedup  12 s  4001  4.00 KiB   512 KiB  440 KiB   956 KiB  53.1 MiB
 2  pandas    warm   12 s  4002  54.0 MiB   512 KiB  440 KiB  54.9 MiB  -952 KiB
    all                          54.0 MiB  1.00 MiB  880 KiB  55.9 MiB  52.1 MiB
sandbox 2 (pandas) was left warm: io_uring buffers
not shown for want of room: depth, shared, identical, patched, packed, whole, manifest
",
        );
    }

    #[test]
    fn depth_is_what_a_sleep_has_reached() {
        let of = |state, chosen, reached| {
            let mut sandbox = sandbox(1, "pandas", state, None);
            sandbox.depth = chosen;
            sandbox.last_sleep = Some(SleepRecord { depth: reached, ..SleepRecord::default() });
            row(&sandbox)[3].clone()
        };
        assert_eq!(of(State::Dedup, Depth::Light, Depth::Light), "light");
        assert_eq!(of(State::Dedup, Depth::Light, Depth::Deep), "deep");
        assert_eq!(of(State::Warm, Depth::Light, Depth::Light), "");
    }

    #[test]
    fn without_sandboxes_there_is_no_head() {
        check(&[], 80, "no sandboxes\n");
    }
}
