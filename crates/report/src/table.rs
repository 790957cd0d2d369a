//! Plain-text tables that fit the width they are given: names are cut first, then whole columns go, and a note
//! says which.

/// Between two columns.
const GAP: &str = "  ";
/// A name cut shorter than this says nothing.
const NAME_WIDTH_MIN: usize = 8;

/// One column: its head, and what becomes of it where there is no room.
#[derive(Clone, Debug)]
pub struct Column {
    head: &'static str,
    align: Align,
    shrinks: bool,
    goes: Option<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Align {
    Left,
    Right,
}

impl Column {
    /// For names and words.
    pub fn left(head: &'static str) -> Self {
        Self { head, align: Align::Left, shrinks: false, goes: None }
    }

    /// For numbers.
    pub fn right(head: &'static str) -> Self {
        Self { head, align: Align::Right, shrinks: false, goes: None }
    }

    /// May be cut, with an ellipsis.
    pub fn shrinking(mut self) -> Self {
        self.shrinks = true;
        self
    }

    /// May be left out where there is no room; the lowest `order` first.
    pub fn optional(mut self, order: u8) -> Self {
        self.goes = Some(order);
        self
    }
}

/// A table being built.
#[derive(Clone, Debug)]
pub struct Table {
    columns: Vec<Column>,
    rows: Vec<Vec<String>>,
    notes: Vec<String>,
}

impl Table {
    /// An empty table.
    pub fn new(columns: impl Into<Vec<Column>>) -> Self {
        Self { columns: columns.into(), rows: Vec::new(), notes: Vec::new() }
    }

    /// Adds a row: a cell for each column, missing ones are blank.
    pub fn row(&mut self, cells: impl Into<Vec<String>>) {
        let mut cells: Vec<String> = cells.into().iter().map(|cell| printable(cell)).collect();
        cells.resize(self.columns.len(), String::new());
        self.rows.push(cells);
    }

    /// Adds a line below the table. Notes are not cut: they are sentences.
    pub fn note(&mut self, line: &str) {
        self.notes.push(printable(line));
    }

    /// The table as text, at most `width` characters wide if its columns allow; each line ends in a newline.
    pub fn render(&self, width: usize) -> String {
        let shown = self.columns_that_fit(width);
        let widths = self.widths(&shown, width);
        let head: Vec<&str> = self.columns.iter().map(|column| column.head).collect();
        let mut text = self.line(&shown, &widths, |index| head.get(index).copied());
        for row in &self.rows {
            text += &self.line(&shown, &widths, |index| row.get(index).map(String::as_str));
        }
        for note in self.notes.iter().cloned().chain(self.left_out(&shown)) {
            text += &note;
            text.push('\n');
        }
        text
    }

    /// Indices of the columns that are shown: optional ones leave until the rest has room.
    fn columns_that_fit(&self, width: usize) -> Vec<usize> {
        let mut shown: Vec<usize> = (0..self.columns.len()).collect();
        while self.least_width(&shown) > width {
            let next = shown.iter().filter_map(|&index| Some((self.columns.get(index)?.goes?, index))).min();
            let Some((_, gone)) = next else { break };
            shown.retain(|&index| index != gone);
        }
        shown
    }

    /// How wide the table is when every name is cut as short as it may be.
    fn least_width(&self, shown: &[usize]) -> usize {
        let least = |index: &usize| match self.columns.get(*index) {
            Some(column) if column.shrinks => self.natural_width(*index).min(NAME_WIDTH_MIN),
            _ => self.natural_width(*index),
        };
        shown.iter().map(least).sum::<usize>() + gaps(shown.len())
    }

    /// The widest cell of a column, its head included.
    fn natural_width(&self, index: usize) -> usize {
        let head = self.columns.get(index).map_or(0, |column| column.head.chars().count());
        let cells = self.rows.iter().filter_map(|row| row.get(index)).map(|cell| cell.chars().count());
        cells.fold(head, usize::max)
    }

    /// Widths of the shown columns; what is too much is taken from those that shrink, the widest first.
    fn widths(&self, shown: &[usize], width: usize) -> Vec<usize> {
        let mut widths: Vec<usize> = shown.iter().map(|&index| self.natural_width(index)).collect();
        while widths.iter().sum::<usize>() + gaps(shown.len()) > width {
            let shrinks = |place: &usize| {
                shown
                    .get(*place)
                    .and_then(|&index| self.columns.get(index))
                    .is_some_and(|column| column.shrinks)
            };
            let widest = (0..shown.len()).filter(shrinks).max_by_key(|&place| widths.get(place).copied());
            match widest.and_then(|place| widths.get_mut(place)) {
                Some(cut) if *cut > NAME_WIDTH_MIN => *cut -= 1,
                _ => break,
            }
        }
        widths
    }

    fn line<'a>(&self, shown: &[usize], widths: &[usize], cell: impl Fn(usize) -> Option<&'a str>) -> String {
        let mut line = String::new();
        for (&index, &width) in shown.iter().zip(widths) {
            if !line.is_empty() {
                line += GAP;
            }
            let text = cut(cell(index).unwrap_or_default(), width);
            line += &match self.columns.get(index).map(|column| column.align) {
                Some(Align::Right) => format!("{text:>width$}"),
                _ => format!("{text:<width$}"),
            };
        }
        line.truncate(line.trim_end().len());
        line + "\n"
    }

    fn left_out(&self, shown: &[usize]) -> Option<String> {
        let hidden = |(index, _): &(usize, &Column)| !shown.contains(index);
        let heads: Vec<&str> =
            self.columns.iter().enumerate().filter(hidden).map(|(_, column)| column.head).collect();
        (!heads.is_empty()).then(|| format!("not shown for want of room: {}", heads.join(", ")))
    }
}

fn gaps(columns: usize) -> usize {
    GAP.len() * columns.saturating_sub(1)
}

/// At most `width` characters of `text`; the last one says that there was more.
fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    text.chars().take(width.saturating_sub(1)).chain(['…']).collect()
}

/// Names come from outside: what would move the cursor or change a colour is shown as `?`.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let mut table = Table::new([
            Column::left("function").shrinking(),
            Column::right("pid").optional(1),
            Column::right("shared").optional(0),
            Column::right("kept"),
        ]);
        table.row(["hello".into(), "4711".into(), "8.10 MiB".into(), "1.25 MiB".into()]);
        table.row(["a-rather-long-name".into(), "12".into(), "0 B".into(), "54.0 MiB".into()]);
        table.note("sandbox 2 was left warm: \x1b[31mio_uring");
        table
    }

    #[track_caller]
    fn check(width: usize, expected: &str) {
        assert_eq!(table().render(width), expected);
    }

    #[test]
    fn with_room_everything_is_shown() {
        check(
            80,
            "\
function             pid    shared      kept
hello               4711  8.10 MiB  1.25 MiB
a-rather-long-name    12       0 B  54.0 MiB
sandbox 2 was left warm: ?[31mio_uring
",
        );
    }

    #[test]
    fn names_are_cut_before_columns_go() {
        check(
            36,
            "\
function     pid    shared      kept
hello       4711  8.10 MiB  1.25 MiB
a-rather-…    12       0 B  54.0 MiB
sandbox 2 was left warm: ?[31mio_uring
",
        );
    }

    #[test]
    fn where_nothing_can_be_cut_columns_go_and_a_note_says_so() {
        check(
            24,
            "\
function   pid      kept
hello     4711  1.25 MiB
a-rathe…    12  54.0 MiB
sandbox 2 was left warm: ?[31mio_uring
not shown for want of room: shared
",
        );
    }

    #[test]
    fn a_column_that_must_stay_stays() {
        assert!(table().render(0).starts_with("function      kept\n"));
    }
}
