//! Every message, field, variant, enum value, service and call of `proto/` has a comment, and every name keeps the rules.

use std::collections::BTreeMap;

use prost::Message as _;
use prost_types::{DescriptorProto, EnumDescriptorProto, FileDescriptorProto, FileDescriptorSet};

// Field numbers in descriptor.proto, of which the paths in its source info are made.
const FILE_MESSAGE: i32 = 4;
const FILE_ENUM: i32 = 5;
const FILE_SERVICE: i32 = 6;
const MESSAGE_FIELD: i32 = 2;
const MESSAGE_NESTED: i32 = 3;
const MESSAGE_ENUM: i32 = 4;
const MESSAGE_ONEOF: i32 = 8;
const ENUM_VALUE: i32 = 2;
const SERVICE_METHOD: i32 = 2;

/// The leading comments of a file by path.
struct Comments(BTreeMap<Vec<i32>, String>);

/// Something that must have a comment: its name and its path.
type Named = (String, Vec<i32>);

fn files() -> Vec<FileDescriptorProto> {
    let set = FileDescriptorSet::decode(api::DESCRIPTOR_SET).expect("the build wrote a descriptor set");
    set.file.into_iter().filter(|file| file.package().starts_with("flareshift.")).collect()
}

fn comments(file: &FileDescriptorProto) -> Comments {
    let info = file.source_code_info.clone().unwrap_or_default();
    Comments(
        info.location
            .into_iter()
            .map(|place| (place.path.clone(), place.leading_comments().to_owned()))
            .collect(),
    )
}

fn below(path: &[i32], kind: i32, index: usize) -> Vec<i32> {
    let index = i32::try_from(index).expect("no proto has so many entries");
    path.iter().copied().chain([kind, index]).collect()
}

fn of_enum(wanted: &EnumDescriptorProto, scope: &str, path: Vec<i32>) -> Vec<Named> {
    let name = format!("{scope}.{}", wanted.name());
    let value = |(index, value): (usize, &prost_types::EnumValueDescriptorProto)| {
        (format!("{name}.{}", value.name()), below(&path, ENUM_VALUE, index))
    };
    let values: Vec<Named> = wanted.value.iter().enumerate().map(value).collect();
    [(name, path)].into_iter().chain(values).collect()
}

fn of_message(wanted: &DescriptorProto, scope: &str, path: Vec<i32>) -> Vec<Named> {
    let name = format!("{scope}.{}", wanted.name());
    let mut named = vec![(name.clone(), path.clone())];
    for (index, field) in wanted.field.iter().enumerate() {
        named.push((format!("{name}.{}", field.name()), below(&path, MESSAGE_FIELD, index)));
    }
    // An `optional` field stands in a oneof of its own that the source does not have.
    for (index, oneof) in
        wanted.oneof_decl.iter().enumerate().filter(|(_, oneof)| !oneof.name().starts_with('_'))
    {
        named.push((format!("{name}.{}", oneof.name()), below(&path, MESSAGE_ONEOF, index)));
    }
    // Entries of maps are messages that the source does not have.
    let is_map =
        |message: &DescriptorProto| message.options.as_ref().is_some_and(|options| options.map_entry());
    for (index, nested) in wanted.nested_type.iter().enumerate().filter(|(_, nested)| !is_map(nested)) {
        named.extend(of_message(nested, &name, below(&path, MESSAGE_NESTED, index)));
    }
    for (index, nested) in wanted.enum_type.iter().enumerate() {
        named.extend(of_enum(nested, &name, below(&path, MESSAGE_ENUM, index)));
    }
    named
}

fn of_file(file: &FileDescriptorProto) -> Vec<Named> {
    let scope = file.package();
    let mut named = Vec::new();
    for (index, message) in file.message_type.iter().enumerate() {
        named.extend(of_message(message, scope, below(&[], FILE_MESSAGE, index)));
    }
    for (index, wanted) in file.enum_type.iter().enumerate() {
        named.extend(of_enum(wanted, scope, below(&[], FILE_ENUM, index)));
    }
    for (index, service) in file.service.iter().enumerate() {
        let path = below(&[], FILE_SERVICE, index);
        named.push((format!("{scope}.{}", service.name()), path.clone()));
        for (index, method) in service.method.iter().enumerate() {
            named
                .push((format!("{}.{}", service.name(), method.name()), below(&path, SERVICE_METHOD, index)));
        }
    }
    named
}

#[test]
fn everything_has_a_comment_that_is_a_sentence() {
    let mut seen = 0;
    let mut missing = Vec::new();
    for file in files() {
        let Comments(comments) = comments(&file);
        for (name, path) in of_file(&file) {
            seen += 1;
            let comment = comments.get(&path).map_or("", |text| text.trim());
            if comment.len() < 5 || !comment.ends_with('.') {
                missing.push(format!("{}: {name}: {comment:?}", file.name()));
            }
        }
    }
    assert!(missing.is_empty(), "write a sentence above each of:\n{}", missing.join("\n"));
    assert!(seen > 400, "only {seen} things were found: is the source info there?");
}

#[test]
fn every_file_opens_with_what_it_is_for() {
    for file in files() {
        let info = file.source_code_info.clone().unwrap_or_default();
        // Path 12 is the `syntax` line, the first of each file.
        let opening =
            info.location.iter().find(|place| place.path == [12]).map(|place| place.leading_comments());
        assert!(opening.is_some_and(|text| text.len() > 30), "{} opens with no comment", file.name());
    }
}

/// Amounts carry their unit: an integer of 64 bits is a quantity unless it counts or names something.
#[test]
fn signed_amounts_carry_their_unit() {
    const UNITS: [&str; 21] = [
        "watts",
        "watts_per_second",
        "watt_seconds",
        "micro_dollars",
        "micro_dollars_per_hour",
        "micro_dollars_per_kwh",
        "micro_dollars_per_mwh",
        "micro_dollars_per_mcf",
        "micro_dollars_per_gpu_hour",
        "scf",
        "scf_per_day",
        "millihertz",
        "hashes_per_second",
        "gpu_milliseconds",
        "kilowatt_milliseconds",
        "satoshi",
        "hashes",
        "permille",
        "ppm",
        "btu_per_scf",
        "btu_per_kwh",
    ];
    for file in files() {
        for message in &file.message_type {
            let signed = message
                .field
                .iter()
                .filter(|field| field.r#type() == prost_types::field_descriptor_proto::Type::Int64);
            for field in signed {
                let named = UNITS
                    .iter()
                    .any(|unit| field.name() == *unit || field.name().ends_with(&format!("_{unit}")));
                assert!(named, "{}.{}: put the unit into the name", message.name(), field.name());
            }
        }
    }
}
