//! The node's record as `dormouse stats` shows it: a fact a line, grouped.

use protocol::NodeRecord;

use crate::quantity::{bytes, percent, signed_bytes};
use crate::table::{Column, Table};

/// The whole node, for people.
pub fn table(node: &NodeRecord, width: usize) -> String {
    let mut table = Table::new([Column::left("").shrinking(), Column::right("")]);
    let groups: [&[(&str, String)]; 4] = [&sandboxes(node), &memory(node), &store(node), &history(node)];
    for (place, group) in groups.iter().enumerate() {
        if place > 0 {
            table.row([]);
        }
        for (name, value) in *group {
            table.row([(*name).to_owned(), value.clone()]);
        }
    }
    // The head of a list of facts is blank; the first line goes.
    table.render(width).lines().skip(1).map(|line| format!("{line}\n")).collect()
}

fn sandboxes(node: &NodeRecord) -> [(&'static str, String); 4] {
    [
        ("sandboxes", node.sandboxes.to_string()),
        ("asleep", node.dedup_sandboxes.to_string()),
        ("stopped by", node.stop_by.clone()),
        ("filled by", node.fill_by.clone()),
    ]
}

fn memory(node: &NodeRecord) -> [(&'static str, String); 6] {
    let account = &node.account;
    let kept = match account.warm_bytes {
        0 => bytes(account.kept_bytes()),
        warm => {
            let share = account.kept_bytes() as f64 / warm as f64;
            format!("{} ({})", bytes(account.kept_bytes()), percent(share))
        }
    };
    [
        ("private memory when warm", bytes(account.warm_bytes)),
        ("kept, everything counted", kept),
        ("saved", signed_bytes(account.saved_bytes())),
        ("resident in sandboxes", bytes(account.resident_bytes)),
        ("kernel, page tables included", bytes(account.page_table_bytes + account.kernel_bytes)),
        ("this node's own memory", bytes(node.own_resident_bytes)),
    ]
}

fn store(node: &NodeRecord) -> [(&'static str, String); 4] {
    [
        ("page store", bytes(node.store_bytes)),
        ("its pages", node.store_pages.to_string()),
        ("its tables", bytes(node.store_table_bytes)),
        ("its stray references", node.store_strays.to_string()),
    ]
}

fn history(node: &NodeRecord) -> [(&'static str, String); 7] {
    [
        ("sleeps", node.sleeps.to_string()),
        ("sleeps interrupted", node.sleeps_interrupted.to_string()),
        ("sleeps refused", node.sleeps_refused.to_string()),
        ("wakes", node.wakes.to_string()),
        ("regrouped", node.regrouped.to_string()),
        ("pages damaged", node.pages_damaged.to_string()),
        ("deaths", node.deaths.to_string()),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(node: &NodeRecord, expected_line: &str) {
        let text = table(node, 80);
        assert!(text.lines().any(|line| line == expected_line), "{expected_line:?} not in\n{text}");
    }

    #[test]
    fn kept_is_shown_with_its_share() {
        let account =
            protocol::Account { warm_bytes: 100 << 20, resident_bytes: 3 << 20, ..Default::default() };
        let node = NodeRecord { account, ..NodeRecord::default() };
        check(&node, "kept, everything counted      3.00 MiB (3.0 %)");
    }

    #[test]
    fn a_bug_of_the_store_shows() {
        let node = NodeRecord { store_strays: 2, ..NodeRecord::default() };
        check(&node, "its stray references            2");
    }

    #[test]
    fn an_empty_node_has_no_share() {
        check(&NodeRecord::default(), "kept, everything counted      0 B");
    }
}
