//! What db-server serves, and to whom: the table `[server]` and the tables `[[controller]]`.

use std::path::{Path, PathBuf};

use protocols::ServerSpec;
use protocols::archive::image_entry;
use protocols::message::Quota;
use protocols::platform::MAX_VMS;
use protocols::server::{
    Controller, ImageAccess, MAX_LISTED_LABELS, MAX_REQUESTS, Orphans, Rights, ServerSpecError,
};
use protocols::settings::check_label;
use protocols::spec::{FIRST_RESERVED_DOMID, MAX_MEMORY_KIB, check_name};
use toml::de::{DeTable, DeValue};

use super::Places;
use super::fields::{Fields, span_of};
use super::members::value_of;
use crate::config::keys::Key;
use crate::config::read_devices;
use crate::config::syntax::Assignment;
use crate::source::{Span, Spanned, nearest};

const ORPHANS: [(&str, Orphans); 2] = [("keep", Orphans::Keep), ("destroy", Orphans::Destroy)];

/// Requests that a controller may have under way, unless its table says how many.
const REQUESTS: u32 = 8;

/// What domain ids look like.
const DOMID_FORMS: &str = "write the first and the last of them: domids = \"100-199\"";

/// An image that VMs are built of which there are not yet.
#[derive(Clone, Debug)]
pub struct NamedImage {
    /// What controllers know it by.
    pub name: Spanned<String>,
    /// The file.
    pub path: Spanned<PathBuf>,
}

/// What the tables say.
pub(super) struct Server {
    pub(super) spec: Option<ServerSpec>,
    pub(super) images: Vec<NamedImage>,
}

/// Reads all of them; paths are relative to `folder`.
pub(super) fn read(fields: &mut Fields<'_, '_>, places: &mut Places, folder: &Path) -> Server {
    let server = fields.table("server");
    let place = server.map(|(place, _)| place);
    let (store_kib, images) =
        server.map(|(place, table)| store(fields, place, table, folder)).unwrap_or_default();
    let (tables, wrong) = controllers(fields);
    if place.is_none() && tables.is_empty() {
        return Server { spec: None, images };
    }
    let mut spec = ServerSpec { store_kib, controllers: Vec::new() };
    for (place, table) in &tables {
        let Some((controller, spans)) = controller(fields, *place, table, &images) else { continue };
        places.controllers.push(Spanned::new(controller.vm.clone(), spans.vm));
        spec.controllers.push(controller);
        if let Err(error) = spec.validate() {
            fields.error(spans.of(&error), error.to_string()).help.extend(help(&error));
            spec.controllers.pop();
        }
    }
    if let Some(place) = place.filter(|_| tables.is_empty() && !wrong) {
        let help = "add a line [[controller]], and below it a line like: vm = \"control\"";
        fields.error(place, "nobody may ask db-server for VMs").help.push(help.into());
    }
    // Without a controller there was an error.
    Server { spec: Some(spec).filter(|spec| !spec.controllers.is_empty()), images }
}

/// `[server]`: the size of the store in KiB, and the images with names.
fn store(
    fields: &mut Fields<'_, '_>,
    place: Span,
    table: &DeTable<'_>,
    folder: &Path,
) -> (u64, Vec<NamedImage>) {
    let mut fields = Fields::new(table, place, fields.diagnostics);
    let store = fields.number("store", 0..=MAX_MEMORY_KIB / 1024, " MiB");
    let images = images(&mut fields, folder);
    fields.finish("[server]");
    (store.map_or(0, |store| store.value * 1024), images)
}

/// `images` of `[server]`: names with files.
fn images(fields: &mut Fields<'_, '_>, folder: &Path) -> Vec<NamedImage> {
    const WANTED: &str = "a table of names and files, like: images = { worker = \"worker.elf\" }";
    let Some((_, value)) = fields.take("images") else { return Vec::new() };
    let DeValue::Table(table) = value.get_ref() else {
        fields.wrong_type("images", WANTED, value);
        return Vec::new();
    };
    let mut images = Vec::new();
    for (key, file) in table {
        let name: &str = key.get_ref();
        if let Err(error) = check_name(name) {
            fields.error(span_of(key), format!("an image's name is formed like a VM's: {error}"));
            continue;
        }
        let DeValue::String(path) = file.get_ref() else {
            fields.wrong_type(name, "a file's name in quotes", file);
            continue;
        };
        images.push(NamedImage {
            name: Spanned::new(name.to_owned(), span_of(key)),
            path: Spanned::new(folder.join(path.as_ref()), span_of(file)),
        });
    }
    images
}

/// The tables `[[controller]]`, and whether something else is there.
fn controllers<'t>(fields: &mut Fields<'t, '_>) -> (Vec<(Span, &'t DeTable<'t>)>, bool) {
    const WANTED: &str = "a list of tables: a line [[controller]] for each, and its settings below";
    let Some((_, value)) = fields.take("controller") else { return (Vec::new(), false) };
    let DeValue::Array(items) = value.get_ref() else {
        fields.wrong_type("controller", WANTED, value);
        return (Vec::new(), true);
    };
    let mut tables = Vec::new();
    for item in items {
        match item.get_ref() {
            DeValue::Table(table) => tables.push((span_of(item), table)),
            _ => fields.wrong_type("controller", WANTED, item),
        }
    }
    let wrong = tables.len() != items.len();
    (tables, wrong)
}

/// Where a controller's settings stand: those that can disagree with others.
struct Spans {
    vm: Span,
    domids: Option<Span>,
    store: Option<Span>,
}

impl Spans {
    fn of(&self, error: &ServerSpecError) -> Span {
        let span = match error {
            ServerSpecError::DomidsOverlap { .. } => self.domids,
            ServerSpecError::StoreTooSmall { .. } => self.store,
            _ => None,
        };
        span.unwrap_or(self.vm)
    }
}

/// What to do about a controller that does not fit in with the rest.
fn help(error: &ServerSpecError) -> Option<String> {
    match error {
        ServerSpecError::StoreTooSmall { bytes, .. } => {
            let mib = bytes.div_ceil(1 << 20);
            Some(format!("write store = {mib} or more in [server], or less here"))
        }
        _ => None,
    }
}

/// Reads one `[[controller]]`.
fn controller<'t>(
    fields: &mut Fields<'t, '_>,
    place: Span,
    table: &'t DeTable<'t>,
    named: &[NamedImage],
) -> Option<(Controller, Spans)> {
    let mut fields = Fields::new(table, place, fields.diagnostics);
    let vm = required(&mut fields, "vm", "vm = \"control\"", Fields::text);
    let memory = required(&mut fields, "memory", "memory = 512, in MiB", |fields, key| {
        fields.number(key, 1..=MAX_MEMORY_KIB / 1024, " MiB")
    });
    let most_vms = u64::try_from(MAX_VMS).unwrap_or(u64::MAX);
    let vms = required(&mut fields, "vms", "vms = 8", |fields, key| fields.number(key, 1..=most_vms, ""));
    let domids = domids(&mut fields);
    let store = fields.number("store", 0..=MAX_MEMORY_KIB / 1024, " MiB");
    let requests = fields.number("requests", 1..=u64::from(MAX_REQUESTS), "");
    let images = image_access(&mut fields, named);
    let placement = fields.truth("placement").unwrap_or_default();
    let devices = read_devices(&devices(&mut fields), fields.diagnostics);
    let labels = labels(&mut fields);
    let orphans = fields.word("orphans", &ORPHANS).unwrap_or_default();
    fields.finish("[[controller]]");

    let (vm, memory, vms) = (vm?, memory?, vms?);
    let spans = Spans {
        vm: vm.span,
        domids: domids.as_ref().map(|domids| domids.span),
        store: store.as_ref().map(|store| store.span),
    };
    let (first_domid, last_domid) = domids.map_or((0, 0), |domids| domids.value);
    let small = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
    let quota = Quota {
        memory_kib: memory.value * 1024,
        vms: small(vms.value),
        first_domid,
        last_domid,
        store_bytes: store.map_or(0, |store| store.value << 20),
        requests: requests.map_or(REQUESTS, |requests| small(requests.value)),
    };
    let may = Rights { devices, placement, labels };
    Some((Controller { vm: vm.value.to_owned(), quota, images, may, orphans }, spans))
}

/// A value that a controller cannot do without.
fn required<'t, 'd, T>(
    fields: &mut Fields<'t, 'd>,
    key: &'static str,
    example: &str,
    read: impl FnOnce(&mut Fields<'t, 'd>, &'static str) -> Option<T>,
) -> Option<T> {
    if fields.place_of(key).is_none() {
        let place = fields.place;
        let message = format!("this controller has no {key:?}");
        fields.error(place, message).help.push(format!("add a line like: {example}"));
    }
    read(fields, key)
}

/// `domids`: the first and the last, or one.
fn domids(fields: &mut Fields<'_, '_>) -> Option<Spanned<(u16, u16)>> {
    let text = fields.text("domids")?;
    let (first, last) = text.value.split_once('-').unwrap_or((text.value, text.value));
    let number = |text: &str| text.trim().parse::<u16>().ok();
    let Some((first, last)) = number(first).zip(number(last)) else {
        let message = format!("\"domids\" is {:?}, which is no range of domain ids", text.value);
        fields.error(text.span, message).help.push(DOMID_FORMS.into());
        return None;
    };
    let highest = FIRST_RESERVED_DOMID - 1;
    if first == 0 || last > highest {
        let message = format!("domain ids {first} to {last}: must be 1 to {highest}");
        let help = "0 is Dom0, higher ones are reserved by Xen";
        fields.error(text.span, message).help.push(help.into());
        return None;
    }
    if first > last {
        let message = format!("domain ids {first} to {last}: the first must not be above the last");
        fields.error(text.span, message).help.push(DOMID_FORMS.into());
        return None;
    }
    Some(Spanned::new((first, last), text.span))
}

/// The labels that it may give its VMs.
fn labels(fields: &mut Fields<'_, '_>) -> Vec<String> {
    const WANTED: &str = "a list of security labels in quotes";
    let Some((_, value)) = fields.take("labels") else { return Vec::new() };
    let DeValue::Array(items) = value.get_ref() else {
        fields.wrong_type("labels", WANTED, value);
        return Vec::new();
    };
    let mut labels: Vec<String> = Vec::new();
    for item in items {
        let DeValue::String(label) = item.get_ref() else {
            fields.wrong_type("labels", WANTED, item);
            continue;
        };
        if let Err(error) = check_label(label) {
            fields.error(span_of(item), error.to_string());
        } else if labels.iter().any(|earlier| earlier == label) {
            fields.error(span_of(item), format!("the label {label:?} is named twice"));
        } else if labels.len() == MAX_LISTED_LABELS {
            fields.error(span_of(item), format!("a controller may have {MAX_LISTED_LABELS} labels at most"));
        } else {
            labels.push(label.to_string());
        }
    }
    labels
}

/// `images`: `"any"`, or names from `[server]`.
fn image_access(fields: &mut Fields<'_, '_>, named: &[NamedImage]) -> ImageAccess {
    const WANTED: &str = "\"any\", or a list of names from `images` in [server]";
    let Some((_, value)) = fields.take("images") else { return ImageAccess::None };
    let items = match value.get_ref() {
        DeValue::String(word) if word == "any" => return ImageAccess::Any,
        DeValue::Array(items) if !items.is_empty() => items,
        DeValue::Array(_) => {
            let help = "leave the line out if the controller may use none of them";
            fields.error(span_of(value), "\"images\" names none").help.push(help.into());
            return ImageAccess::None;
        }
        DeValue::String(word) => {
            let message = format!("\"images\" must be {WANTED}, this is {word:?}");
            let help = format!("for the image {word:?} alone write images = [{word:?}]");
            fields.error(span_of(value), message).help.push(help);
            return ImageAccess::None;
        }
        _ => {
            fields.wrong_type("images", WANTED, value);
            return ImageAccess::None;
        }
    };
    let known = || named.iter().map(|image| image.name.value.as_str());
    let mut entries = Vec::new();
    for item in items {
        let DeValue::String(name) = item.get_ref() else {
            fields.wrong_type("images", WANTED, item);
            continue;
        };
        if !known().any(|known| known == name) {
            let help = match nearest(name, known()) {
                Some(near) => format!("did you mean {near:?}?"),
                None => format!("name its file in [server]: images = {{ {name} = \"FILE\" }}"),
            };
            let message = format!("there is no image {name:?} in [server]");
            fields.error(span_of(item), message).help.push(help);
            continue;
        }
        entries.push(image_entry(name));
    }
    if entries.is_empty() { ImageAccess::None } else { ImageAccess::Listed(entries) }
}

/// The devices that a controller may give away, as a VM file names them.
fn devices(fields: &mut Fields<'_, '_>) -> Vec<Assignment> {
    let mut assignments = Vec::new();
    for (key, span, value) in fields.take_known([Key::IoMemory, Key::IoPorts, Key::Interrupts].map(Key::name))
    {
        match value_of(value) {
            Some(value) => assignments.push(Assignment { key: Spanned::new(key.to_owned(), span), value }),
            None => fields.wrong_type(key, "a list of ranges", value),
        }
    }
    assignments
}
