//! Rows as a Parquet file, and back.
//!
//! Low level on purpose: columns of three physical types and one level of nulls need no arrow. Assumes that a whole file fits into
//! memory, as the rows it is made of do. Read next: `table.rs`.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use bytes::Bytes;
use parquet::basic::{Compression, Type as Physical};
use parquet::column::reader::{ColumnReader, get_typed_column_reader};
use parquet::data_type::{
    ByteArray, ByteArrayType, DataType, FixedLenByteArray, FixedLenByteArrayType, Int64Type,
};
use parquet::errors::ParquetError;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;
use parquet::file::reader::{FileReader as _, SerializedFileReader};
use parquet::file::writer::{SerializedColumnWriter, SerializedFileWriter};
use parquet::schema::parser::parse_message_type;
use parquet::schema::types::ColumnDescriptor;

use crate::rows::{Cell, Rows};
use crate::table::{Column, Kind, SCHEMA, Table};

/// Rows that are buffered and written together: 10 MB at 160 bytes each, and what one thread of a reader takes at a time.
const ROW_GROUP: usize = 65_536;

/// Why a file was not written or read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It is not what this program writes.
    #[error("it is no table {:?} of schema {SCHEMA}: {why}", table.name())]
    OtherSchema {
        /// What was looked for.
        table: Table,
        /// What is different.
        why: String,
    },
    /// It is damaged, or the library found fault with it.
    #[error("it is no whole Parquet file")]
    Parquet(#[from] ParquetError),
}

/// The schema as Parquet writes it.
pub fn schema(table: Table) -> String {
    let column = |column: &Column| {
        let repetition = if column.optional { "optional" } else { "required" };
        let (physical, logical) = match column.kind {
            Kind::Text => ("binary", " (STRING)"),
            Kind::Integer => ("int64", ""),
            Kind::Time => ("int64", " (TIMESTAMP(MILLIS,true))"),
            Kind::Wide => ("fixed_len_byte_array(16)", " (DECIMAL(38,0))"),
        };
        format!("{repetition} {physical} {}{logical};", column.name)
    };
    let columns: Vec<String> = table.columns().iter().map(column).collect();
    format!("message {} {{ {} }}", table.name(), columns.join(" "))
}

/// Rows as the bytes of a file.
pub fn encode(rows: &Rows) -> Result<Vec<u8>, Error> {
    let table = rows.table();
    let schema = Arc::new(parse_message_type(&schema(table))?);
    let note = |key: &str, value: String| KeyValue::new(format!("flareshift.{key}"), value);
    let notes = vec![note("schema", SCHEMA.to_string()), note("table", table.name().into())];
    let properties = WriterProperties::builder()
        .set_compression(Compression::SNAPPY)
        .set_created_by("flareshift".into())
        .set_key_value_metadata(Some(notes))
        .build();
    let mut writer = SerializedFileWriter::new(Vec::new(), schema, Arc::new(properties))?;
    for begin in (0..rows.len()).step_by(ROW_GROUP) {
        let end = rows.len().min(begin + ROW_GROUP);
        let mut group = writer.next_row_group()?;
        let mut column = 0;
        while let Some(mut out) = group.next_column()? {
            let cells = (begin..end).map(|row| rows.cell(row, column));
            write_column(&mut out, table.columns()[column], cells)?;
            out.close()?;
            column += 1;
        }
        group.close()?;
    }
    Ok(writer.into_inner()?)
}

fn write_column<'a>(
    out: &mut SerializedColumnWriter<'_>,
    column: Column,
    cells: impl Iterator<Item = Cell<'a>> + Clone,
) -> Result<(), ParquetError> {
    let levels: Option<Vec<i16>> =
        column.optional.then(|| cells.clone().map(|cell| i16::from(cell != Cell::Null)).collect());
    let levels = levels.as_deref();
    match column.kind {
        Kind::Text => {
            let text = |cell| if let Cell::Text(text) = cell { Some(ByteArray::from(text)) } else { None };
            let values: Vec<ByteArray> = cells.filter_map(text).collect();
            out.typed::<ByteArrayType>().write_batch(&values, levels, None)?;
        }
        Kind::Integer | Kind::Time => {
            let integer = |cell| if let Cell::Integer(value) = cell { Some(value) } else { None };
            let values: Vec<i64> = cells.filter_map(integer).collect();
            out.typed::<Int64Type>().write_batch(&values, levels, None)?;
        }
        Kind::Wide => {
            let wide = |cell| {
                let Cell::Wide(value) = cell else { return None };
                Some(FixedLenByteArray::from(value.to_be_bytes().to_vec()))
            };
            let values: Vec<FixedLenByteArray> = cells.filter_map(wide).collect();
            out.typed::<FixedLenByteArrayType>().write_batch(&values, levels, None)?;
        }
    }
    Ok(())
}

/// Reads a file that [`encode`] wrote. On some damaged ones the library fails an assertion; that is an error here like any other.
pub fn decode(table: Table, bytes: Bytes) -> Result<Rows, Error> {
    let read = AssertUnwindSafe(|| read_file(table, bytes));
    catch_unwind(read)
        .unwrap_or_else(|_| Err(Error::Parquet(ParquetError::General("the reader panicked".into()))))
}

fn read_file(table: Table, bytes: Bytes) -> Result<Rows, Error> {
    let file = SerializedFileReader::new(bytes)?;
    let found = file.metadata().file_metadata().schema_descr();
    if found.num_columns() != table.columns().len() {
        return Err(Error::OtherSchema { table, why: format!("it has {} columns", found.num_columns()) });
    }
    let pairs = found.columns().iter().zip(table.columns());
    if let Some((found, column)) = pairs.into_iter().find(|(found, column)| !is_same(found, column)) {
        let why = format!("where {} belongs it has {}", column.name, found.name());
        return Err(Error::OtherSchema { table, why });
    }
    let mut rows = Rows::new(table);
    for group in 0..file.num_row_groups() {
        let group = file.get_row_group(group)?;
        let count = usize::try_from(group.metadata().num_rows()).unwrap_or(0);
        for (at, column) in table.columns().iter().enumerate() {
            read_column(&mut rows, at, *column, group.get_column_reader(at)?, count)?;
        }
    }
    Ok(rows)
}

fn is_same(found: &ColumnDescriptor, column: &Column) -> bool {
    let physical = match column.kind {
        Kind::Text => Physical::BYTE_ARRAY,
        Kind::Integer | Kind::Time => Physical::INT64,
        Kind::Wide => Physical::FIXED_LEN_BYTE_ARRAY,
    };
    let nulls = i16::from(column.optional);
    found.name() == column.name && found.physical_type() == physical && found.max_def_level() == nulls
}

fn read_column(
    rows: &mut Rows,
    at: usize,
    column: Column,
    reader: ColumnReader,
    count: usize,
) -> Result<(), Error> {
    let table = rows.table();
    let damaged = |why: &str| Error::OtherSchema { table, why: format!("{}: {why}", column.name) };
    match column.kind {
        Kind::Text => {
            let (levels, values) = read::<ByteArrayType>(reader, column, count)?;
            let texts = values.iter().map(|value| std::str::from_utf8(value.data()));
            let texts = texts.collect::<Result<Vec<&str>, _>>().map_err(|_| damaged("no UTF-8"))?;
            fill(rows, at, &levels, texts.into_iter().map(Cell::Text));
        }
        Kind::Integer | Kind::Time => {
            let (levels, values) = read::<Int64Type>(reader, column, count)?;
            fill(rows, at, &levels, values.into_iter().map(Cell::Integer));
        }
        Kind::Wide => {
            let (levels, values) = read::<FixedLenByteArrayType>(reader, column, count)?;
            let wide = values.iter().map(|value| value.data().try_into().map(u128::from_be_bytes));
            let wide = wide.collect::<Result<Vec<u128>, _>>().map_err(|_| damaged("not 16 bytes"))?;
            fill(rows, at, &levels, wide.into_iter().map(Cell::Wide));
        }
    }
    Ok(())
}

/// The levels (1 = there is a value) and the values of a column of a row group: as many levels as rows, or it is damaged.
fn read<T: DataType>(
    reader: ColumnReader,
    column: Column,
    count: usize,
) -> Result<(Vec<i16>, Vec<T::T>), ParquetError> {
    let mut reader = get_typed_column_reader::<T>(reader);
    let (mut levels, mut values) = (Vec::new(), Vec::new());
    reader.read_records(count, Some(&mut levels), None, &mut values)?;
    if !column.optional {
        levels = vec![1; values.len()];
    }
    let there = levels.iter().filter(|level| **level == 1).count();
    if levels.len() != count || there != values.len() {
        return Err(ParquetError::General(format!("column {} ends before its rows do", column.name)));
    }
    Ok((levels, values))
}

fn fill<'a>(rows: &mut Rows, at: usize, levels: &[i16], mut values: impl Iterator<Item = Cell<'a>>) {
    for level in levels {
        let cell = if *level == 1 { values.next() } else { None };
        rows.push_cell(at, cell.unwrap_or(Cell::Null));
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use model::{Span, Time};

    use super::*;
    use crate::lines;
    use crate::testing::{lines_of_every_kind, segment, segments};

    #[test]
    fn what_is_written_is_read_back() {
        let found = lines::rows(&segments("m1", 1, 3, Time(0)));
        assert_eq!(found.len(), Table::ALL.len());
        for (partition, rows) in found {
            let bytes = Bytes::from(encode(&rows).unwrap());
            assert_eq!(decode(partition.table, bytes).unwrap(), rows, "{partition:?}");
        }
    }

    #[test]
    fn no_rows_and_more_rows_than_a_group_takes_are_files_too() {
        for rows in [0, ROW_GROUP, 2 * ROW_GROUP + 1] {
            let mut written = Rows::new(Table::Gap);
            for line in 0..rows {
                let line = Cell::Integer(i64::try_from(line).unwrap());
                let from = if rows % 3 == 0 { Cell::Null } else { line };
                written.push(&[Cell::Text("m"), Cell::Integer(1), line, from, line, Cell::Text("why")]);
            }
            let read = decode(Table::Gap, encode(&written).unwrap().into()).unwrap();
            assert_eq!(read, written, "{rows}");
        }
    }

    #[test]
    fn the_same_rows_are_the_same_bytes() {
        let rows =
            || lines::rows([&segment("m1", 1, Time(0) + Span::hours(3), lines_of_every_kind(Time(5)))]);
        for (first, second) in rows().into_values().zip(rows().into_values()) {
            assert_eq!(encode(&first).unwrap(), encode(&second).unwrap());
        }
    }

    #[test]
    fn a_file_of_another_table_or_a_damaged_one_is_refused() {
        let rows = lines::rows(&segments("m1", 1, 1, Time(0)));
        let bytes = |table| {
            let of = rows.iter().find(|(partition, _)| partition.table == table).unwrap().1;
            encode(of).unwrap()
        };
        let check = |table, bytes: Vec<u8>, expected: &str| {
            let error = decode(table, bytes.into()).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        };
        check(Table::Gas, bytes(Table::Gap), "it has 6 columns");
        check(Table::Gap, bytes(Table::Gas), "it has 9 columns");
        let whole = bytes(Table::Gap);
        check(Table::Gap, whole[..whole.len() - 1].to_vec(), "no whole Parquet file");
        check(Table::Gap, Vec::new(), "no whole Parquet file");
        // The same number of columns, of other types.
        let mut other = Rows::new(Table::Shares);
        other.append(rows.iter().find(|(partition, _)| partition.table == Table::Shares).unwrap().1);
        check(Table::Energy, encode(&other).unwrap(), "where part belongs it has from_utc");
    }

    #[test]
    fn a_byte_that_flips_never_ends_the_process() {
        let rows = lines::rows(&segments("m1", 1, 1, Time(0)));
        let (partition, rows) = rows.iter().find(|(partition, _)| partition.table == Table::Gas).unwrap();
        let bytes = encode(rows).unwrap();
        for at in 0..bytes.len() {
            let mut flipped = bytes.clone();
            flipped[at] ^= 0x10;
            match decode(partition.table, flipped.into()) {
                Ok(read) => assert!(read.len() <= rows.len(), "byte {at}"),
                Err(error) => assert!(error.to_string().contains("it is no"), "byte {at}: {error}"),
            }
        }
    }
}
