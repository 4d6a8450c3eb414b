//! What a VM file says that its images are: the keys `kernel_hash` and `ramdisk_hash`.

use protocols::Digest;

use super::Reader;
use crate::config::keys::Key;
use crate::source::Spanned;

impl Reader<'_> {
    /// The SHA-256 that the file named by `image` must have.
    pub(super) fn hash(&mut self, key: Key, image: Key) -> Option<Spanned<Digest>> {
        let text = self.string(key)?;
        if !self.values.contains_key(&image) && !self.broken_elsewhere {
            self.error(
                text.span,
                format!("there is no {:?} that this could be the SHA-256 of", image.name()),
            )
            .help
            .push(format!("add the {:?}, or remove the line", image.name()));
            return None;
        }
        match text.value.strip_prefix("sha256:").unwrap_or(&text.value).parse() {
            Ok(digest) => Some(Spanned::new(digest, text.span)),
            Err(error) => {
                self.error(text.span, format!("{:?} is {error}", key.name())).help.push(
                    "give the SHA-256 that `sha256sum FILE` prints, with or without \"sha256:\" in front"
                        .into(),
                );
                None
            }
        }
    }
}
