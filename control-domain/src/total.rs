//! One digest over all that a platform was built of.

use alloc::vec::Vec;

use protocols::Digest;
use protocols::message::Measurement;
use trust::sha256;

/// The SHA-256 of all `measurements` in their order, each as the name of the VM, a byte 0, and the digests of boot spec, kernel and RAM
/// disk, the last being 32 bytes 0 for a VM without one.
pub fn total<'m>(measurements: impl Iterator<Item = &'m Measurement>) -> Digest {
    let mut bytes = Vec::new();
    for Measurement { vm, spec, kernel, ramdisk } in measurements {
        bytes.extend_from_slice(vm.as_bytes());
        bytes.push(0);
        for digest in [*spec, *kernel, ramdisk.unwrap_or(Digest([0; 32]))] {
            bytes.extend_from_slice(&digest.0);
        }
    }
    sha256(&bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_total_is_what_its_description_says() {
        let [a, b] = [Digest([1; 32]), Digest([2; 32])];
        let web = Measurement { vm: "web".into(), spec: a, kernel: b, ramdisk: None };
        let expected = [b"web\0".as_slice(), &[1; 32], &[2; 32], &[0; 32]].concat();
        assert_eq!(total([&web].into_iter()), sha256(&expected));
        let db = Measurement { vm: "db".into(), ramdisk: Some(a), ..web.clone() };
        assert_ne!(total([&web, &db].into_iter()), total([&db, &web].into_iter()));
    }
}
