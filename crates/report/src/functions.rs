//! The functions of a server as `dormouse stats` shows them.

use protocol::FunctionRecord;

use crate::table::{Column, Table};

/// A line for each function; nothing where there are none.
pub fn table(functions: &[FunctionRecord], width: usize) -> String {
    if functions.is_empty() {
        return String::new();
    }
    let numbers =
        ["sandboxes", "queued", "invocations", "warm", "dedup", "cold", "errors", "timeouts", "throttled"];
    let mut columns = vec![Column::left("function").shrinking()];
    columns.extend(numbers.map(Column::right));
    let mut table = Table::new(columns);
    for function in functions {
        let numbers = [
            function.sandboxes,
            function.queued,
            function.invocations,
            function.warm_starts,
            function.dedup_starts,
            function.cold_starts,
            function.errors,
            function.timeouts,
            function.throttles,
        ];
        let mut row = vec![function.name.to_string()];
        row.extend(numbers.map(|number| number.to_string()));
        table.row(row);
    }
    format!("\n{}", table.render(width))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_function_has_a_line() {
        let function = FunctionRecord {
            name: "hello".parse().unwrap(),
            invocations: 12,
            errors: 1,
            timeouts: 0,
            throttles: 0,
            cold_starts: 2,
            warm_starts: 7,
            dedup_starts: 3,
            queued: 0,
            sandboxes: 2,
        };
        let text = table(&[function], 200);
        let last: Vec<&str> = text.lines().last().unwrap().split_whitespace().collect();
        assert_eq!(last, ["hello", "2", "0", "12", "7", "3", "2", "1", "0", "0"]);
        assert_eq!(table(&[], 80), "");
    }
}
