//! A VM that a controller has asked for, from its request to its start, in parts of bounded time: images are hashed, the kernel is
//! unpacked, the domain is built.

use alloc::collections::BTreeMap;
use alloc::rc::Rc;
use alloc::string::String;
use alloc::vec::Vec;
use core::cell::Cell;

use domain_builder::Ring;
use hypercall::{FrameWindow, RawHypercall};
use kernel_image::Format;
use launch::{Building, Host, Image, PlannedVm, UnpackingKernel};
use protocols::Digest;
use protocols::message::{Built, Failure, Reason, RingPlace};
use sha2::{Digest as _, Sha256};

use crate::failure::{failure, not_built, not_planned};
use crate::store::Store;

/// How much of an image is hashed between two looks at the clock, in bytes.
const PIECE: usize = 64 << 10;

/// An image that a VM is built of.
pub(crate) struct Input {
    place: Place,
    digest: Option<Digest>,
    hash: Sha256,
    hashed: usize,
}

/// Where an image is.
enum Place {
    /// In db-server's RAM disk, by its name.
    Entry(String),
    /// In the store.
    Stored(Rc<Vec<u8>>),
}

impl Input {
    /// An entry of the RAM disk.
    pub(crate) fn entry(name: String) -> Self {
        Self { place: Place::Entry(name), digest: None, hash: Sha256::new(), hashed: 0 }
    }

    /// An image of the store.
    pub(crate) fn stored(digest: Digest, bytes: Rc<Vec<u8>>) -> Self {
        Self { place: Place::Stored(bytes), digest: Some(digest), hash: Sha256::new(), hashed: 0 }
    }

    fn image(&self) -> Image<'_> {
        match &self.place {
            Place::Entry(name) => Image::Entry(name),
            Place::Stored(bytes) => Image::Bytes(bytes),
        }
    }

    fn name(&self) -> &str {
        match &self.place {
            Place::Entry(name) => name,
            Place::Stored(_) => "of the store",
        }
    }

    fn bytes<'a, H: RawHypercall, W: FrameWindow>(&'a self, host: &'a Host<'_, '_, '_, H, W>) -> &'a [u8] {
        match &self.place {
            Place::Entry(name) => host.image(name).unwrap_or_default(),
            Place::Stored(bytes) => bytes,
        }
    }

    /// The bytes, to be kept while they are unpacked. Packed kernels in a RAM disk are rare, as domb unpacks them: they are copied, since
    /// the RAM disk is not to be held on to.
    fn kept<H: RawHypercall, W: FrameWindow>(
        &self,
        host: &Host<'_, '_, '_, H, W>,
    ) -> Result<Rc<Vec<u8>>, Failure> {
        if let Place::Stored(bytes) = &self.place {
            return Ok(Rc::clone(bytes));
        }
        let entry = self.bytes(host);
        let mut copy = Vec::new();
        copy.try_reserve_exact(entry.len()).map_err(|_| no_memory(self.name(), entry.len()))?;
        copy.extend_from_slice(entry);
        Ok(Rc::new(copy))
    }

    /// The digest, once it is known: hashes until system time `until`.
    fn measure<H: RawHypercall, W: FrameWindow>(
        &mut self,
        host: &Host<'_, '_, '_, H, W>,
        known: &mut BTreeMap<String, Digest>,
        until: u64,
    ) -> Option<Digest> {
        let Place::Entry(name) = &self.place else { return self.digest };
        if self.digest.is_none() {
            self.digest = known.get(name).copied();
        }
        let bytes = host.image(name).unwrap_or_default();
        while self.digest.is_none() {
            let piece = bytes.get(self.hashed..).unwrap_or_default();
            let piece = piece.get(..PIECE).unwrap_or(piece);
            if piece.is_empty() {
                let digest = Digest(self.hash.finalize_reset().into());
                known.insert(name.clone(), digest);
                self.digest = Some(digest);
                break;
            }
            self.hash.update(piece);
            self.hashed += piece.len();
            if host.time() >= until {
                break;
            }
        }
        self.digest
    }
}

/// Where kernels are unpacked, one at a time: db-server has the memory for one. Whoever else has a packed kernel waits for it.
#[derive(Default)]
pub(crate) struct Bench(Rc<Cell<Option<usize>>>);

/// The seat at the bench, which is free again when this is dropped.
pub(crate) struct Seat(Rc<Cell<Option<usize>>>);

impl Bench {
    /// The seat, if it is free.
    fn take(&self) -> Option<Seat> {
        if self.0.get().is_some() {
            return None;
        }
        self.0.set(Some(0));
        Some(Seat(Rc::clone(&self.0)))
    }

    /// Bytes that who has the seat may take before it is done; 0 when the seat is free.
    pub(crate) fn reserved(&self) -> usize {
        self.0.get().unwrap_or_default()
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.set(None);
    }
}

/// A VM that is asked for and not there yet.
pub(crate) struct Job<'x, H: RawHypercall> {
    /// The request's number.
    pub(crate) id: u32,
    pub(crate) domid: u16,
    /// The VM's number.
    pub(crate) serial: u64,
    pub(crate) paused: bool,
    /// Whether what it is built of is logged.
    pub(crate) measured: bool,
    pub(crate) vm: Rc<PlannedVm>,
    pub(crate) kernel: Input,
    pub(crate) ramdisk: Option<Input>,
    /// Its kernel, while it is unpacked.
    pub(crate) unpacking: Option<(UnpackingKernel, Seat)>,
    /// What the kernel unpacks to, if it is packed.
    pub(crate) elf: Option<Rc<Vec<u8>>>,
    pub(crate) building: Option<Building<'x, H>>,
}

impl<'x, H: RawHypercall> Job<'x, H> {
    /// Goes on until system time `until`, and makes one step at least; gives the answer when the VM is there.
    pub(crate) fn step<W: FrameWindow>(
        &mut self,
        host: &mut Host<'_, '_, 'x, H, W>,
        store: &mut Store,
        known: &mut BTreeMap<String, Digest>,
        bench: &Bench,
        until: u64,
    ) -> Result<Option<Built>, Failure> {
        let Some(kernel) = self.kernel.measure(host, known, until) else { return Ok(None) };
        let ramdisk = match &mut self.ramdisk {
            None => None,
            Some(input) => match input.measure(host, known, until) {
                None => return Ok(None),
                digest => digest,
            },
        };
        if self.building.is_none() {
            if !self.unpack(host, store, bench, kernel, until)? {
                return Ok(None);
            }
            self.building = Some(Building::new(Rc::clone(&self.vm), host.time()));
            return Ok(None);
        }
        let Some(building) = &mut self.building else { return Ok(None) };
        let elf = self.elf.as_ref().map_or(self.kernel.image(), |elf| Image::Bytes(elf));
        let built = host.build(building, elf, self.ramdisk.as_ref().map(Input::image), until);
        let built = built.inspect_err(|error| host.log_failure(&self.vm, error));
        let Some(built) = built.map_err(|error| not_built(&error))? else { return Ok(None) };
        let (start_info, console, store) = (built.start_info(), built.console(), built.store());
        let domid = host.adopt(built, self.paused).inspect_err(|error| host.log_failure(&self.vm, error));
        let domid = domid.map_err(|error| not_built(&error))?.raw();
        if self.measured {
            let ramdisk = ramdisk.map(|digest| alloc::format!(" ramdisk={digest}")).unwrap_or_default();
            log::info!("vm={} domid={domid} event=measured kernel={kernel}{ramdisk}", self.vm.spec.name);
        }
        let place = |ring: Ring| RingPlace { frame: ring.frame.raw(), port: ring.port.raw() };
        let (start_info, console, xenstore) = (start_info.raw(), place(console), store.map(place));
        let serial = self.serial;
        Ok(Some(Built { domid, start_info, kernel, ramdisk, console, xenstore, serial }))
    }

    /// Goes on to unpack the kernel, if it is packed, until system time `until`; says whether it is as it is needed.
    fn unpack<W: FrameWindow>(
        &mut self,
        host: &Host<'_, '_, 'x, H, W>,
        store: &mut Store,
        bench: &Bench,
        digest: Digest,
        until: u64,
    ) -> Result<bool, Failure> {
        if self.unpacking.is_none() {
            self.elf = store.unpacked(digest);
            if self.elf.is_some() {
                return Ok(true);
            }
            // A file that is no kernel is refused below.
            if matches!(Format::detect(self.kernel.bytes(host)), Ok(Format::Elf)) {
                return Ok(true);
            }
            let Some(seat) = bench.take() else { return Ok(false) };
            let file = self.kernel.kept(host)?;
            let begun = UnpackingKernel::new(self.kernel.name(), file, host.spare_memory());
            self.unpacking = begun.map_err(|error| not_planned(&error))?.map(|unpacking| {
                seat.0.set(Some(unpacking.needed()));
                (unpacking, seat)
            });
        }
        let Some((mut unpacking, seat)) = self.unpacking.take() else { return Ok(true) };
        if !unpacking.step(|| host.time() >= until).map_err(|error| not_planned(&error))? {
            self.unpacking = Some((unpacking, seat));
            return Ok(false);
        }
        let elf = Rc::new(unpacking.into_elf().map_err(|error| not_planned(&error))?);
        store.keep_unpacked(digest, &elf);
        self.elf = Some(elf);
        Ok(true)
    }
}

/// What is answered when a kernel cannot be held while it is unpacked.
fn no_memory(name: &str, size: usize) -> Failure {
    failure(
        Reason::OutOfMemory,
        alloc::format!(
            "kernel {name}: unpacking it takes {} KiB more than db-server has: store it unpacked, as `domb pack` does by default, \
             or raise dom0_mem",
            size.div_ceil(1024)
        ),
    )
}

/// What is answered to a request for an image that is not there.
pub(crate) fn no_image(what: &str) -> Failure {
    failure(
        Reason::NoSuchImage,
        alloc::format!("image {what}: it is not there; send it first, or pack it into the RAM disk"),
    )
}
