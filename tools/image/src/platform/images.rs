//! The images of a platform: read once each, and named for the archive.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use protocols::Digest;
use protocols::archive::{IMAGE_FOLDER, image_entry};
use protocols::spec::ImageRole;
use sha2::{Digest as _, Sha256};

use super::{Image, hexadecimal, modules};
use crate::config::VmFile;
use crate::files;
use crate::platform_file::{NamedImage, PlatformFile};
use crate::source::{Diagnostic, SourceFile, Spanned};

/// The largest image: the CPIO format has 32 bits for a file's size.
const MAX_IMAGE_LEN: u64 = u32::MAX as u64;

/// Where a file of a RAM disk begins that follows another: at a multiple of so many bytes.
pub(super) const RAMDISK_ALIGNMENT: u64 = 4;

/// Images, each once.
#[derive(Default)]
pub(super) struct ImageStore {
    pub(super) images: Vec<Image>,
    /// How many of them, from the first on, have names that controllers know.
    pub(super) named: usize,
    by_path: BTreeMap<PathBuf, usize>,
    by_digest: BTreeMap<[u8; 32], usize>,
}

impl ImageStore {
    /// The images of a platform file, which come first: their names are promised. What VMs have in common with them they share.
    pub(super) fn with_named(file: &PlatformFile) -> Result<Self, Vec<String>> {
        let (mut store, mut problems) = (Self::default(), Vec::new());
        for image in &file.images {
            match read_image(&file.source, "image", &image.path) {
                Ok(bytes) => store.keep_named(image, bytes),
                Err(problem) => problems.push(problem),
            }
        }
        if problems.is_empty() { Ok(store) } else { Err(problems) }
    }

    /// Takes in an image under its name, also if its contents are there already.
    fn keep_named(&mut self, image: &NamedImage, bytes: Vec<u8>) {
        let digest: [u8; 32] = Sha256::digest(&bytes).into();
        self.by_digest.entry(digest).or_insert(self.images.len());
        self.by_path.entry(image.path.value.clone()).or_insert(self.images.len());
        self.images.push(Image {
            entry: image_entry(&image.name.value),
            path: image.path.value.clone(),
            file_sha256: Digest(digest),
            bytes,
            unpacked_from: None,
        });
        self.named = self.images.len();
    }

    /// The index of the image at `path`, which is read unless its contents are there already.
    pub(super) fn add(
        &mut self,
        file: &VmFile,
        role: ImageRole,
        path: &Spanned<PathBuf>,
    ) -> Result<usize, String> {
        if let Some(index) = self.by_path.get(&path.value) {
            return Ok(*index);
        }
        let name = entry_name(file, role, path)?;
        let bytes = read_image(&file.source, &role.to_string(), path)?;
        let index = self.keep(name, &path.value, bytes);
        self.by_path.insert(path.value.clone(), index);
        Ok(index)
    }

    /// The index of a VM's RAM disk, if it has one: its file, or its files joined.
    pub(super) fn add_ramdisk(&mut self, file: &VmFile) -> Result<Option<usize>, String> {
        if let ([only], []) = (file.config.ramdisks.as_slice(), file.config.modules.as_slice()) {
            return self.add(file, ImageRole::Ramdisk, only).map(Some);
        }
        let first = file.config.ramdisk_files().next();
        let Some((first, name)) = first.zip(ramdisk_name(file)?) else { return Ok(None) };
        let mut joined = Vec::new();
        for path in &file.config.ramdisks {
            let alignment = usize::try_from(RAMDISK_ALIGNMENT).unwrap_or(1);
            // As Linux wants archives that follow each other: each begins at a multiple of four bytes.
            joined.resize(joined.len().next_multiple_of(alignment), 0);
            joined.extend(read_image(&file.source, &ImageRole::Ramdisk.to_string(), path)?);
        }
        for module in &file.config.modules {
            modules::pad(&mut joined);
            joined.extend(read_image(&file.source, "module", &module.path)?);
        }
        if u64::try_from(joined.len()).is_ok_and(|len| len <= MAX_IMAGE_LEN) {
            return Ok(Some(self.keep(name, &first.value, joined)));
        }
        let text =
            format!("RAM disk: its files have {} bytes together, more than {MAX_IMAGE_LEN}", joined.len());
        Err(Diagnostic::error(first.span, text).render(&file.source))
    }

    /// The index of an image with these contents, which is a new one unless they are there already.
    fn keep(&mut self, name: String, path: &Path, bytes: Vec<u8>) -> usize {
        let digest: [u8; 32] = Sha256::digest(&bytes).into();
        let index = *self.by_digest.entry(digest).or_insert(self.images.len());
        if index == self.images.len() {
            let entry = self.free_name(name, &digest);
            let file_sha256 = Digest(digest);
            self.images.push(Image { entry, path: path.to_owned(), file_sha256, bytes, unpacked_from: None });
        }
        index
    }

    /// `name`, or `name` with a piece of the contents' digest when another image has it.
    fn free_name(&self, name: String, digest: &[u8; 32]) -> String {
        let taken = |name: &String| self.images.iter().any(|image| image.entry == *name);
        let whole = hexadecimal(digest);
        let longer = (8..=whole.len()).map(|digits| format!("{name}.{}", &whole[..digits]));
        std::iter::once(name.clone()).chain(longer).find(|name| !taken(name)).unwrap_or(name)
    }
}

/// The contents of a file that is named in `source`, as a `role`.
fn read_image(source: &SourceFile, role: &str, path: &Spanned<PathBuf>) -> Result<Vec<u8>, String> {
    let problem = |text: String| Diagnostic::error(path.span, text).render(source);
    let bytes = files::read_bounded(&path.value, MAX_IMAGE_LEN)
        .map_err(|error| problem(format!("{role}: {error}")))?;
    if bytes.is_empty() {
        return Err(problem(format!("{role}: {} is empty", path.value.display())));
    }
    Ok(bytes)
}

/// What a VM's RAM disk is called in the archive: by its file, or by its files with `+` between them.
pub(super) fn ramdisk_name(file: &VmFile) -> Result<Option<String>, String> {
    let Some(first) = file.config.ramdisk_files().next() else { return Ok(None) };
    let mut names = Vec::new();
    for path in file.config.ramdisk_files() {
        let name = entry_name(file, ImageRole::Ramdisk, path)?;
        names.push(name.strip_prefix(IMAGE_FOLDER).unwrap_or(&name).to_owned());
    }
    let whole = Spanned::new(PathBuf::from(names.join("+")), first.span);
    entry_name(file, ImageRole::Ramdisk, &whole).map(Some)
}

/// What an image is called in the archive: its file name below `images/`.
pub(super) fn entry_name(file: &VmFile, role: ImageRole, path: &Spanned<PathBuf>) -> Result<String, String> {
    let problem = |text: String| Diagnostic::error(path.span, text).render(&file.source);
    let name = path.value.file_name().and_then(|name| Path::new(name).to_str());
    let name =
        name.ok_or_else(|| problem(format!("{role}: {} does not name a file", path.value.display())))?;
    let entry = format!("{IMAGE_FOLDER}{name}");
    // Room for the piece of a digest that tells two images of the same name apart.
    let longest = format!("{entry}.{:064}", 0);
    match protocols::spec::check_image_name(role, &longest) {
        Ok(()) => Ok(entry),
        Err(_) => {
            Err(problem(format!("{role}: the file name {name:?} is too long or has control characters")))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::platform::Platform;

    #[test]
    fn controllers_find_images_by_the_names_that_were_promised() {
        let folder = tempfile::tempdir().unwrap();
        for (path, contents) in [("kernel", "one"), ("other", "two"), ("vm.cfg", VM)] {
            fs::write(folder.path().join(path), contents).unwrap();
        }
        let text = "[server]\nimages = { b = 'kernel', a = 'kernel', kernel = 'other' }\n\
                    [[controller]]\nvm = 'vm'\nmemory = 1\nvms = 1\nimages = 'any'\n[[vm]]\nfile = 'vm.cfg'\n";
        let file = PlatformFile::parse(SourceFile::new("p.toml", text), folder.path()).unwrap();
        let platform = Platform::load_file(file).unwrap();
        let names: Vec<_> = platform.named_images().iter().map(|image| image.entry.as_str()).collect();
        assert_eq!(names, ["images/a", "images/b", "images/kernel"]);
        // The VM's kernel is there already, and its RAM disk does not take the name that is promised for another.
        assert_eq!(platform.vms()[0].spec.kernel, "images/a");
        assert_eq!(platform.vms()[0].spec.ramdisk.as_deref(), Some("images/kernel+other"));
        let archive = platform.archive().unwrap();
        let archive = ramdisk::Archive::parse(&archive).unwrap();
        for (entry, contents) in [("images/a", b"one"), ("images/b", b"one"), ("images/kernel", b"two")] {
            assert_eq!(archive.file(entry).unwrap(), contents);
        }
    }

    const VM: &str =
        "name = 'vm'\nkernel = 'kernel'\nramdisk = ['kernel', 'other']\nmemory = 16\ndomid = 1\n";
}
