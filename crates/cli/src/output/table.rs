//! Tables in plain columns, which people read and `awk` can too: no frames, two spaces between columns, a header line.
//!
//! Assumes nothing about the terminal: a line is as long as it is, so that output does not depend on where it is run.

use comfy_table::{CellAlignment, ContentArrangement, Table, presets::NOTHING};

/// Rows under headers. A header that begins with `>` stands over numbers: its column is aligned to the right.
pub fn columns(headers: &[&str], rows: Vec<Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_style(NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(headers.iter().map(|header| header.trim_start_matches('>')));
    table.add_rows(rows.into_iter().map(|row| row.into_iter().map(|cell| clean(&cell)).collect::<Vec<_>>()));
    for (index, header) in headers.iter().enumerate() {
        let Some(column) = table.column_mut(index) else { continue };
        let left = if index == 0 { 0 } else { 1 };
        column.set_padding((left, 1));
        if header.starts_with('>') {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table.lines().map(|line| line.trim_end().to_owned() + "\n").collect()
}

/// Names and values, one pair a line; a pair without a value is left out.
pub fn pairs(pairs: &[(&str, String)]) -> String {
    let shown = || pairs.iter().filter(|(_, value)| !value.is_empty());
    let width = shown().map(|(name, _)| name.chars().count() + 1).max().unwrap_or_default();
    shown().map(|(name, value)| format!("{:width$}  {}\n", format!("{name}:"), clean(value))).collect()
}

/// A part of a longer answer under a title; nothing at all when it is empty.
pub fn section(title: &str, body: &str) -> String {
    if body.is_empty() { String::new() } else { format!("\n{title}\n{body}") }
}

/// A table under a title; nothing at all without rows.
pub fn titled(title: &str, headers: &[&str], rows: Vec<Vec<String>>) -> String {
    if rows.is_empty() { String::new() } else { section(title, &columns(headers, rows)) }
}

/// A list, or the sentence that says why there is none.
pub fn list(headers: &[&str], rows: Vec<Vec<String>>, none: &str) -> String {
    if rows.is_empty() { format!("{none}\n") } else { columns(headers, rows) }
}

/// Text of others on one line and without control characters, so that no name can draw on the operator's terminal.
pub fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    fn row(cells: &[&str]) -> Vec<String> {
        cells.iter().map(|cell| (*cell).to_owned()).collect()
    }

    #[test]
    fn columns_stand_under_their_headers_and_numbers_to_the_right() {
        let rows = vec![row(&["well-7", "1.20 MW", "ok"]), row(&["a", "900 W", "short of gas"])];
        expect![[r#"
            SITE       LOAD  NOTE
            well-7  1.20 MW  ok
            a         900 W  short of gas
        "#]]
        .assert_eq(&columns(&["SITE", ">LOAD", "NOTE"], rows));
    }

    #[test]
    fn pairs_leave_out_what_has_no_value() {
        expect![[r#"
            Site:       well-7
            Simulated:  yes
        "#]]
        .assert_eq(&pairs(&[
            ("Site", "well-7".into()),
            ("Binding", String::new()),
            ("Simulated", "yes".into()),
        ]));
    }

    #[test]
    fn an_empty_list_says_so_and_an_empty_part_is_left_out() {
        assert_eq!(list(&["A"], vec![], "No sites."), "No sites.\n");
        assert_eq!(titled("Runs", &["A"], vec![]), "");
        assert_eq!(section("Why", "it is\n"), "\nWhy\nit is\n");
    }

    #[test]
    fn control_characters_of_others_reach_no_terminal() {
        assert_eq!(clean("evil\u{1b}[2Jname\nline"), "evil [2Jname line");
        assert_eq!(pairs(&[("Name", "a\u{7}b".into())]), "Name:  a b\n");
    }
}
