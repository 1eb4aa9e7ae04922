//! Structures, unions and enumerators out of a C compiler's debug information.

use anyhow::{Context, Result};
use gimli::{
    self, AttributeValue, DebuggingInformationEntry, Dwarf, DwarfSections, EndianSlice,
    LittleEndian, Unit,
};
use object::{Object, ObjectSection};

use crate::c::{Compound, Facts, Field, Kind, Value};

type Reader<'d> = EndianSlice<'d, LittleEndian>;
type Entry<'a, 'd> = DebuggingInformationEntry<'a, 'a, Reader<'d>>;

/// Adds what `object` tells about files that `header_of` knows.
pub(crate) fn read(
    object: &[u8],
    facts: &mut Facts,
    header_of: impl Fn(&str) -> Option<String>,
) -> Result<()> {
    let file = object::File::parse(object)?;
    // Not linked: the addresses of sections are to be added to references.
    let sections = DwarfSections::load(|id| {
        file.section_by_name(id.name())
            .map(|section| relocated(&file, &section))
            .transpose()
            .map(Option::unwrap_or_default)
    })?;
    let dwarf = sections.borrow(|section| EndianSlice::new(section, LittleEndian));
    let mut units = dwarf.units();
    while let Some(header) = units.next()? {
        let unit = dwarf.unit(header)?;
        let view = View {
            dwarf: &dwarf,
            unit: &unit,
        };
        view.read(facts, &header_of)?;
    }
    Ok(())
}

/// A section with its relocations done.
fn relocated(file: &object::File<'_>, section: &object::Section<'_, '_>) -> Result<Vec<u8>> {
    let mut data = section.data()?.to_vec();
    for (offset, relocation) in section.relocations() {
        let object::RelocationTarget::Symbol(index) = relocation.target() else {
            continue;
        };
        let symbol = file.symbol_by_index(index)?;
        let value = object::ObjectSymbol::address(&symbol)
            .wrapping_add(relocation.addend().cast_unsigned());
        let at = usize::try_from(offset)?;
        let len = usize::from(relocation.size() / 8);
        if let Some(place) = data.get_mut(at..at + len) {
            place.copy_from_slice(&value.to_le_bytes()[..len]);
        }
    }
    Ok(data)
}

struct View<'a, 'd> {
    dwarf: &'a Dwarf<Reader<'d>>,
    unit: &'a Unit<Reader<'d>>,
}

impl<'a, 'd> View<'a, 'd> {
    fn read(&self, facts: &mut Facts, header_of: &impl Fn(&str) -> Option<String>) -> Result<()> {
        let mut tree = self.unit.entries_tree(None)?;
        let mut children = tree.root()?.children();
        while let Some(child) = children.next()? {
            let entry = child.entry();
            let Some(header) = self.file(entry)?.and_then(|file| header_of(&file)) else {
                continue;
            };
            match entry.tag() {
                gimli::DW_TAG_structure_type | gimli::DW_TAG_union_type => {
                    if let Some(name) = self.name(entry)? {
                        self.compound(facts, &header, &name, entry)?;
                    }
                }
                gimli::DW_TAG_typedef => {
                    // A structure may have no other name.
                    let Some(target) = self.target(entry)? else {
                        continue;
                    };
                    let compound = matches!(
                        target.tag(),
                        gimli::DW_TAG_structure_type | gimli::DW_TAG_union_type
                    );
                    if let (true, None, Some(name)) =
                        (compound, self.name(&target)?, self.name(entry)?)
                    {
                        self.compound(facts, &header, &name, &target)?;
                    }
                }
                gimli::DW_TAG_enumeration_type => self.enumeration(facts, &header, entry)?,
                _ => {}
            }
        }
        Ok(())
    }

    fn enumeration(&self, facts: &mut Facts, header: &str, entry: &Entry<'_, 'd>) -> Result<()> {
        let mut tree = self.unit.entries_tree(Some(entry.offset()))?;
        let mut children = tree.root()?.children();
        while let Some(child) = children.next()? {
            let entry = child.entry();
            let value = entry.attr_value(gimli::DW_AT_const_value)?;
            let number = match value {
                Some(AttributeValue::Sdata(value)) => Some(i128::from(value)),
                Some(value) => value.udata_value().map(i128::from),
                None => None,
            };
            if let (Some(name), Some(number)) = (self.name(entry)?, number) {
                facts
                    .values
                    .insert(name, (header.to_owned(), Value::Number(number)));
            }
        }
        Ok(())
    }

    /// Adds a structure, and the unnamed ones in it.
    fn compound(
        &self,
        facts: &mut Facts,
        header: &str,
        name: &str,
        entry: &Entry<'_, 'd>,
    ) -> Result<()> {
        let Some(size) = entry
            .attr_value(gimli::DW_AT_byte_size)?
            .and_then(|value| value.udata_value())
        else {
            // Declared only.
            return Ok(());
        };
        let mut fields = Vec::new();
        self.fields(facts, header, name, entry, 0, &mut fields)?;
        let kind = if entry.tag() == gimli::DW_TAG_union_type {
            Kind::Union
        } else {
            Kind::Struct
        };
        facts.compounds.insert(
            name.to_owned(),
            Compound {
                header: header.to_owned(),
                kind,
                size,
                fields,
            },
        );
        Ok(())
    }

    fn fields(
        &self,
        facts: &mut Facts,
        header: &str,
        path: &str,
        entry: &Entry<'_, 'd>,
        base: u64,
        fields: &mut Vec<Field>,
    ) -> Result<()> {
        let mut tree = self.unit.entries_tree(Some(entry.offset()))?;
        let mut children = tree.root()?.children();
        while let Some(child) = children.next()? {
            let member = child.entry();
            if member.tag() != gimli::DW_TAG_member {
                continue;
            }
            let offset = base
                + member
                    .attr_value(gimli::DW_AT_data_member_location)?
                    .and_then(|value| value.udata_value())
                    .unwrap_or(0);
            let target = self.target(member)?.context("a member without a type")?;
            let Some(name) = self.name(member)? else {
                // Its members count as the outer one's.
                self.fields(facts, header, path, &target, offset, fields)?;
                continue;
            };
            fields.push(Field {
                name: name.clone(),
                offset,
                size: self.size(&target)?,
            });
            let mut element = target;
            while element.tag() == gimli::DW_TAG_array_type {
                element = self.target(&element)?.context("an array of nothing")?;
            }
            let unnamed = matches!(
                element.tag(),
                gimli::DW_TAG_structure_type | gimli::DW_TAG_union_type
            ) && self.name(&element)?.is_none()
                && !self.has_typedef(element.offset())?;
            if unnamed {
                self.compound(facts, header, &format!("{path}.{name}"), &element)?;
            }
        }
        Ok(())
    }

    /// Whether a typedef names the type at `offset`.
    fn has_typedef(&self, offset: gimli::UnitOffset) -> Result<bool> {
        let mut tree = self.unit.entries_tree(None)?;
        let mut children = tree.root()?.children();
        while let Some(child) = children.next()? {
            let entry = child.entry();
            if entry.tag() == gimli::DW_TAG_typedef
                && entry.attr_value(gimli::DW_AT_type)? == Some(AttributeValue::UnitRef(offset))
            {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// What an entry's type is, behind qualifiers and typedefs.
    fn target(&self, entry: &Entry<'_, 'd>) -> Result<Option<Entry<'a, 'd>>> {
        let mut next = entry.attr_value(gimli::DW_AT_type)?;
        while let Some(AttributeValue::UnitRef(offset)) = next {
            let target = self.unit.entry(offset)?;
            match target.tag() {
                gimli::DW_TAG_typedef | gimli::DW_TAG_const_type | gimli::DW_TAG_volatile_type => {
                    next = target.attr_value(gimli::DW_AT_type)?;
                }
                _ => return Ok(Some(target)),
            }
        }
        Ok(None)
    }

    fn size(&self, entry: &Entry<'_, 'd>) -> Result<u64> {
        if entry.tag() != gimli::DW_TAG_array_type {
            let size = entry.attr_value(gimli::DW_AT_byte_size)?;
            // Only pointers come without: they are what they are.
            return Ok(size.and_then(|value| value.udata_value()).unwrap_or(8));
        }
        let element = self.target(entry)?.context("an array of nothing")?;
        let mut size = self.size(&element)?;
        let mut tree = self.unit.entries_tree(Some(entry.offset()))?;
        let mut children = tree.root()?.children();
        while let Some(child) = children.next()? {
            let range = child.entry();
            let number = |name| -> Result<Option<u64>> {
                Ok(range
                    .attr_value(name)?
                    .and_then(|value| value.udata_value()))
            };
            let count = match (
                number(gimli::DW_AT_count)?,
                number(gimli::DW_AT_upper_bound)?,
            ) {
                (Some(count), _) => count,
                (None, Some(bound)) => bound.wrapping_add(1),
                // A flexible array.
                (None, None) => 0,
            };
            size *= count;
        }
        Ok(size)
    }

    fn name(&self, entry: &Entry<'_, 'd>) -> Result<Option<String>> {
        let Some(value) = entry.attr_value(gimli::DW_AT_name)? else {
            return Ok(None);
        };
        let text = self.dwarf.attr_string(self.unit, value)?;
        Ok(Some(gimli::Reader::to_string_lossy(&text)?.into_owned()))
    }

    /// The file that declares an entry.
    fn file(&self, entry: &Entry<'_, 'd>) -> Result<Option<String>> {
        let Some(AttributeValue::FileIndex(index)) = entry.attr_value(gimli::DW_AT_decl_file)?
        else {
            return Ok(None);
        };
        let program = self
            .unit
            .line_program
            .as_ref()
            .context("no list of files")?;
        let header = program.header();
        let Some(file) = header.file(index) else {
            return Ok(None);
        };
        let part = |value| -> Result<String> {
            let text = self.dwarf.attr_string(self.unit, value)?;
            Ok(gimli::Reader::to_string_lossy(&text)?.into_owned())
        };
        let name = part(file.path_name())?;
        let folder = match file.directory(header) {
            Some(folder) => part(folder)?,
            None => String::new(),
        };
        Ok(Some(format!("{folder}/{name}")))
    }
}
