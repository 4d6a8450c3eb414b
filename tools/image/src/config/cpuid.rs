//! What VM files say of CPUID, in the two forms that xl reads: names of features (`host,tm=0,sse3=0`), and whole registers
//! (`1:ecx=xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx0`).

use protocols::settings::{CpuidChange, MAX_CPUID_CHANGES, NO_SUBLEAF, Register};

/// The features of one register that have names.
struct Features {
    leaf: u32,
    subleaf: u32,
    register: Register,
    /// Bit and name; some have two.
    bits: &'static [(u32, &'static str)],
}

/// A number that lies somewhere in a register, or in two pieces.
struct Field {
    name: &'static str,
    leaf: u32,
    subleaf: u32,
    register: Register,
    /// Lowest bit in the number, how many bits, lowest bit in the register.
    pieces: &'static [(u32, u32, u32)],
}

/// What a file says of a bit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wish {
    Zero,
    One,
    /// As by default.
    Default,
    /// As the machine has it.
    Host,
}

impl Wish {
    fn read(text: &str) -> Option<Self> {
        match text {
            "0" => Some(Self::Zero),
            "1" => Some(Self::One),
            "x" => Some(Self::Default),
            "k" | "s" => Some(Self::Host),
            _ => None,
        }
    }
}

/// The changes that a file asks for.
#[derive(Clone, Debug, Default)]
pub(super) struct Changes(Vec<CpuidChange>);

impl Changes {
    /// The changes that are left: those to the default are none.
    pub(super) fn into_list(self) -> Result<Vec<CpuidChange>, String> {
        let mut list = self.0;
        list.retain(|change| change.ones | change.zeros | change.host != 0);
        if list.len() > MAX_CPUID_CHANGES {
            return Err(format!("it changes {} registers, at most {MAX_CPUID_CHANGES}", list.len()));
        }
        Ok(list)
    }

    /// Says what the bits of `mask` are to be; what was said of them before no longer counts.
    fn wish(&mut self, leaf: u32, subleaf: u32, register: Register, mask: u32, wish: Wish) {
        let is_it = |it: &&mut CpuidChange| (it.leaf, it.subleaf, it.register) == (leaf, subleaf, register);
        let found = self.0.iter_mut().find(is_it);
        let change = if let Some(change) = found {
            change
        } else {
            self.0.push(CpuidChange { leaf, subleaf, register, ones: 0, zeros: 0, host: 0 });
            let last = self.0.len() - 1;
            &mut self.0[last]
        };
        change.ones &= !mask;
        change.zeros &= !mask;
        change.host &= !mask;
        match wish {
            Wish::One => change.ones |= mask,
            Wish::Zero => change.zeros |= mask,
            Wish::Host => change.host |= mask,
            Wish::Default => {}
        }
    }

    /// Reads `host`, then names and their values, all behind commas.
    pub(super) fn read_names(&mut self, text: &str) -> Result<(), String> {
        let mut items = text.split(',').map(str::trim);
        if items.next() != Some("host") {
            return Err("it does not begin with \"host\"".into());
        }
        items.try_for_each(|item| {
            let (name, value) = item.split_once('=').ok_or_else(|| format!("{item:?} has no value"))?;
            self.read_name(name.trim(), value.trim())
        })
    }

    fn read_name(&mut self, name: &str, value: &str) -> Result<(), String> {
        for Features { leaf, subleaf, register, bits } in FEATURES {
            if let Some((bit, _)) = bits.iter().find(|(_, known)| *known == name) {
                let wish = Wish::read(value).ok_or_else(|| {
                    format!("{value:?} is nothing for {name}: 0, 1, x (default) or k (the machine's)")
                })?;
                self.wish(*leaf, *subleaf, *register, 1 << bit, wish);
                return Ok(());
            }
        }
        let field = FIELDS.iter().find(|field| field.name == name);
        let Some(field) = field else {
            let known = FEATURES.iter().flat_map(|it| it.bits).map(|(_, known)| *known);
            let near = crate::source::nearest(name, known.chain(FIELDS.iter().map(|field| field.name)));
            let hint = near.map(|near| format!("; did you mean {near:?}?")).unwrap_or_default();
            return Err(format!("{name:?} is no feature that is known{hint}"));
        };
        self.read_field(field, value)
    }

    fn read_field(&mut self, field: &Field, value: &str) -> Result<(), String> {
        let Field { name, leaf, subleaf, register, pieces } = *field;
        let mask = |bits: u32| u32::MAX >> (32 - bits);
        if let Some(wish @ (Wish::Default | Wish::Host)) = Wish::read(value) {
            for (_, bits, at) in pieces {
                self.wish(leaf, subleaf, register, mask(*bits) << at, wish);
            }
            return Ok(());
        }
        let number = super::syntax::read_number(value)
            .ok()
            .and_then(|number| u32::try_from(number).ok())
            .ok_or_else(|| format!("{value:?} is no number for {name}"))?;
        let parts = split(name, number, pieces).ok_or_else(|| format!("{number} is too large for {name}"))?;
        for ((_, bits, at), part) in pieces.iter().zip(parts) {
            self.wish(leaf, subleaf, register, part << at, Wish::One);
            self.wish(leaf, subleaf, register, (!part & mask(*bits)) << at, Wish::Zero);
        }
        Ok(())
    }

    /// Reads `LEAF:REGISTER=BITS,...` or `LEAF,SUBLEAF:...`; 32 bits, the highest first.
    pub(super) fn read_registers(&mut self, text: &str) -> Result<(), String> {
        let (numbers, registers) =
            text.split_once(':').ok_or("it has no \":\" behind the number of the leaf")?;
        let number = |text: &str| {
            let number = super::syntax::read_number(text.trim()).ok();
            number.and_then(|number| u32::try_from(number).ok()).ok_or(format!("{text:?} is no leaf"))
        };
        let (leaf, subleaf) = match numbers.split_once(',') {
            Some((leaf, subleaf)) => (number(leaf)?, number(subleaf)?),
            None => (number(numbers)?, NO_SUBLEAF),
        };
        registers.split(',').map(str::trim).try_for_each(|item| {
            let (name, bits) = item.split_once('=').ok_or_else(|| format!("{item:?} has no bits"))?;
            let register = match name.trim() {
                "eax" => Register::Eax,
                "ebx" => Register::Ebx,
                "ecx" => Register::Ecx,
                "edx" => Register::Edx,
                other => return Err(format!("{other:?} is no register: eax, ebx, ecx or edx")),
            };
            self.read_bits(leaf, subleaf, register, bits.trim())
        })
    }

    fn read_bits(&mut self, leaf: u32, subleaf: u32, register: Register, bits: &str) -> Result<(), String> {
        if bits.len() != 32 || !bits.is_ascii() {
            return Err(format!("{bits:?} has {} bits, not 32", bits.chars().count()));
        }
        for (place, text) in bits.char_indices() {
            let wish = Wish::read(text.encode_utf8(&mut [0; 4]))
                .ok_or_else(|| format!("{text:?} is no bit: 0, 1, x (default) or k (the machine's)"))?;
            self.wish(leaf, subleaf, register, 0x8000_0000 >> place, wish);
        }
        Ok(())
    }
}

/// The parts of a number that go to each piece; `None` if it does not fit. A family above 15 is 15, and what is above 15 beside it.
fn split(name: &str, number: u32, pieces: &[(u32, u32, u32)]) -> Option<Vec<u32>> {
    if name == "family" {
        return (number <= 15 + 255).then(|| vec![number.min(15), number.saturating_sub(15)]);
    }
    let whole: u32 = pieces.iter().map(|(_, bits, _)| bits).sum();
    let fits = whole >= 32 || number >> whole == 0;
    fits.then(|| pieces.iter().map(|(from, bits, _)| number >> from & u32::MAX >> (32 - bits)).collect())
}

#[rustfmt::skip]
const FIELDS: &[Field] = &[
    Field { name: "maxleaf", leaf: 0, subleaf: NO_SUBLEAF, register: Register::Eax, pieces: &[(0, 32, 0)] },
    Field { name: "stepping", leaf: 1, subleaf: NO_SUBLEAF, register: Register::Eax, pieces: &[(0, 4, 0)] },
    Field { name: "model", leaf: 1, subleaf: NO_SUBLEAF, register: Register::Eax, pieces: &[(0, 4, 4), (4, 4, 16)] },
    Field { name: "family", leaf: 1, subleaf: NO_SUBLEAF, register: Register::Eax, pieces: &[(0, 4, 8), (4, 8, 20)] },
    Field { name: "brandid", leaf: 1, subleaf: NO_SUBLEAF, register: Register::Ebx, pieces: &[(0, 8, 0)] },
    Field { name: "clflush", leaf: 1, subleaf: NO_SUBLEAF, register: Register::Ebx, pieces: &[(0, 8, 8)] },
    Field { name: "proccount", leaf: 1, subleaf: NO_SUBLEAF, register: Register::Ebx, pieces: &[(0, 8, 16)] },
    Field { name: "localapicid", leaf: 1, subleaf: NO_SUBLEAF, register: Register::Ebx, pieces: &[(0, 8, 24)] },
    Field { name: "procpkg", leaf: 4, subleaf: 0, register: Register::Eax, pieces: &[(0, 6, 26)] },
    Field { name: "nc", leaf: 0x8000_0008, subleaf: NO_SUBLEAF, register: Register::Ecx, pieces: &[(0, 8, 0)] },
    Field { name: "apicidsize", leaf: 0x8000_0008, subleaf: NO_SUBLEAF, register: Register::Ecx, pieces: &[(0, 4, 12)] },
    Field { name: "maxhvleaf", leaf: 0x4000_0000, subleaf: NO_SUBLEAF, register: Register::Eax, pieces: &[(0, 8, 0)] },
];

/// The names that xl has for features.
#[rustfmt::skip]
const FEATURES: &[Features] = &[
    Features { leaf: 1, subleaf: NO_SUBLEAF, register: Register::Ecx, bits: &[(0, "sse3"), (1, "pclmulqdq"), (2, "dtes64"), (3, "monitor"), (4, "dscpl"), (5, "vmx"), (6, "smx"), (7, "est"), (8, "tm2"), (9, "ssse3"), (10, "cntxid"), (12, "fma"), (13, "cmpxchg16"), (14, "xtpr"), (15, "pdcm"), (17, "pcid"), (18, "dca"), (19, "sse4_1"), (19, "sse4.1"), (20, "sse4_2"), (20, "sse4.2"), (21, "x2apic"), (22, "movbe"), (23, "popcnt"), (24, "tsc-deadline"), (25, "aes"), (26, "xsave"), (27, "osxsave"), (28, "avx"), (29, "f16c"), (30, "rdrand"), (31, "hypervisor")] },
    Features { leaf: 1, subleaf: NO_SUBLEAF, register: Register::Edx, bits: &[(0, "fpu"), (1, "vme"), (2, "de"), (3, "pse"), (4, "tsc"), (5, "msr"), (6, "pae"), (7, "mce"), (8, "cmpxchg8"), (9, "apic"), (11, "sysenter"), (12, "mtrr"), (13, "pge"), (14, "mca"), (15, "cmov"), (16, "pat"), (17, "pse36"), (18, "psn"), (19, "clfsh"), (21, "ds"), (22, "acpi"), (23, "mmx"), (24, "fxsr"), (25, "sse"), (26, "sse2"), (27, "ss"), (28, "htt"), (29, "tm"), (30, "ia64"), (31, "pbe")] },
    Features { leaf: 6, subleaf: NO_SUBLEAF, register: Register::Eax, bits: &[(2, "arat")] },
    Features { leaf: 7, subleaf: 0, register: Register::Ebx, bits: &[(0, "fsgsbase"), (1, "tsc_adjust"), (3, "bmi1"), (4, "hle"), (5, "avx2"), (7, "smep"), (8, "bmi2"), (9, "erms"), (10, "invpcid"), (11, "rtm"), (12, "cmt"), (14, "mpx"), (16, "avx512f"), (17, "avx512dq"), (18, "rdseed"), (19, "adx"), (20, "smap"), (21, "avx512-ifma"), (23, "clflushopt"), (24, "clwb"), (25, "proc-trace"), (26, "avx512pf"), (27, "avx512er"), (28, "avx512cd"), (29, "sha"), (30, "avx512bw"), (31, "avx512vl")] },
    Features { leaf: 7, subleaf: 0, register: Register::Ecx, bits: &[(0, "prefetchwt1"), (1, "avx512-vbmi"), (2, "umip"), (3, "pku"), (4, "ospke"), (6, "avx512-vbmi2"), (7, "cet-ss"), (8, "gfni"), (9, "vaes"), (10, "vpclmulqdq"), (11, "avx512-vnni"), (12, "avx512-bitalg"), (14, "avx512-vpopcntdq"), (22, "rdpid"), (25, "cldemote")] },
    Features { leaf: 7, subleaf: 0, register: Register::Edx, bits: &[(2, "avx512-4vnniw"), (3, "avx512-4fmaps"), (4, "fsrm"), (8, "avx512-vp2intersect"), (9, "srbds-ctrl"), (10, "md-clear"), (14, "serialize"), (16, "tsxldtrk"), (20, "cet-ibt"), (23, "avx512-fp16"), (26, "ibrsb"), (27, "stibp"), (28, "l1d-flush"), (29, "arch-caps"), (30, "core-caps"), (31, "ssbd")] },
    Features { leaf: 7, subleaf: 1, register: Register::Eax, bits: &[(4, "avx-vnni"), (5, "avx512-bf16"), (10, "fzrm"), (11, "fsrs"), (12, "fsrcs")] },
    Features { leaf: 7, subleaf: 2, register: Register::Edx, bits: &[(0, "intel-psfd"), (5, "mcdt-no")] },
    Features { leaf: 0x8000_0001, subleaf: NO_SUBLEAF, register: Register::Ecx, bits: &[(0, "lahfsahf"), (1, "cmplegacy"), (2, "svm"), (3, "extapic"), (4, "altmovcr8"), (5, "abm"), (6, "sse4a"), (7, "misalignsse"), (8, "3dnowprefetch"), (9, "osvw"), (10, "ibs"), (11, "xop"), (12, "skinit"), (13, "wdt"), (15, "lwp"), (16, "fma4"), (19, "nodeid"), (21, "tbm"), (22, "topoext"), (23, "perfctr_core"), (24, "perfctr_nb")] },
    Features { leaf: 0x8000_0001, subleaf: NO_SUBLEAF, register: Register::Edx, bits: &[(11, "syscall"), (20, "nx"), (22, "mmxext"), (25, "ffxsr"), (26, "page1gb"), (27, "rdtscp"), (29, "lm"), (30, "3dnowext"), (31, "3dnow")] },
    Features { leaf: 0x8000_0007, subleaf: NO_SUBLEAF, register: Register::Edx, bits: &[(8, "invtsc")] },
    Features { leaf: 0x8000_0008, subleaf: NO_SUBLEAF, register: Register::Ebx, bits: &[(0, "clzero"), (2, "rstr-fp-err-ptrs"), (9, "wbnoinvd"), (12, "ibpb"), (14, "ibrs"), (15, "amd-stibp"), (16, "ibrs-always"), (17, "stibp-always"), (18, "ibrs-fast"), (19, "ibrs-same-mode"), (20, "no-lmsl"), (23, "ppin"), (24, "amd-ssbd"), (25, "virt-ssbd"), (26, "ssb-no"), (28, "psfd"), (29, "btc-no"), (30, "ibpb-ret")] },
    Features { leaf: 0x8000_000a, subleaf: NO_SUBLEAF, register: Register::Edx, bits: &[(0, "svm_npt"), (1, "svm_lbrv"), (3, "svm_nrips"), (4, "svm_tscrate"), (5, "svm_vmcbclean"), (7, "svm_decode"), (10, "svm_pausefilt")] },
    Features { leaf: 0x8000_0021, subleaf: NO_SUBLEAF, register: Register::Eax, bits: &[(2, "lfence+"), (6, "nscb")] },
];

#[cfg(test)]
mod tests {
    use super::*;

    fn names(text: &str) -> Result<Vec<CpuidChange>, String> {
        let mut changes = Changes::default();
        changes.read_names(text)?;
        changes.into_list()
    }

    fn change(leaf: u32, register: Register, ones: u32, zeros: u32, host: u32) -> CpuidChange {
        CpuidChange { leaf, subleaf: NO_SUBLEAF, register, ones, zeros, host }
    }

    #[test]
    fn features_are_read_by_name() {
        assert_eq!(
            names("host,tm=0,sse3=0,avx=k, nx=1"),
            Ok(vec![
                change(1, Register::Edx, 0, 1 << 29, 0),
                change(1, Register::Ecx, 0, 1, 1 << 28),
                change(0x8000_0001, Register::Edx, 1 << 20, 0, 0),
            ])
        );
        assert_eq!(names("host"), Ok(vec![]));
        // The last word counts, and the default is no change.
        assert_eq!(names("host,sse3=0,sse3=x"), Ok(vec![]));
    }

    #[test]
    fn numbers_are_put_in_place() {
        assert_eq!(
            names("host,family=6"),
            Ok(vec![change(1, Register::Eax, 6 << 8, 9 << 8 | 0xff << 20, 0)])
        );
        assert_eq!(
            names("host,family=25,model=0x21"),
            Ok(vec![change(
                1,
                Register::Eax,
                0xf << 8 | 10 << 20 | 1 << 4 | 2 << 16,
                0xf5 << 20 | 0xe << 4 | 0xd << 16,
                0
            )])
        );
        assert_eq!(names("host,maxleaf=0xd"), Ok(vec![change(0, Register::Eax, 0xd, !0xd, 0)]));
        assert_eq!(names("host,nc=k"), Ok(vec![change(0x8000_0008, Register::Ecx, 0, 0, 0xff)]));
    }

    #[test]
    fn registers_are_read_bit_by_bit() {
        let mut changes = Changes::default();
        let text = format!("7,0:ebx={}0,ecx=k{}1", "x".repeat(31), "x".repeat(30));
        assert_eq!(changes.read_registers(&text), Ok(()));
        let of =
            |register, ones, zeros, host| CpuidChange { leaf: 7, subleaf: 0, register, ones, zeros, host };
        let expected = vec![of(Register::Ebx, 0, 1, 0), of(Register::Ecx, 1, 0, 1 << 31)];
        assert_eq!(changes.into_list(), Ok(expected));
    }

    #[test]
    fn what_cannot_be_read_is_told() {
        for (text, reason) in [
            ("tm=0", "it does not begin with \"host\""),
            ("host,tm", "\"tm\" has no value"),
            ("host,tm=2", "\"2\" is nothing for tm"),
            ("host,ssse4=1", "\"ssse4\" is no feature that is known; did you mean"),
            ("host,stepping=16", "16 is too large for stepping"),
            ("host,family=271", "271 is too large for family"),
            ("host,nc=-1", "\"-1\" is no number for nc"),
        ] {
            let error = names(text).unwrap_err();
            assert!(error.starts_with(reason), "{text}: {error}");
        }
        for (text, reason) in [
            ("1", "it has no \":\""),
            ("a:eax=0", "\"a\" is no leaf"),
            ("1:eip=0", "\"eip\" is no register"),
            ("1:eax", "\"eax\" has no bits"),
            ("1:eax=01", "\"01\" has 2 bits, not 32"),
            ("1:eax=yxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx", "'y' is no bit"),
        ] {
            let error = Changes::default().read_registers(text).unwrap_err();
            assert!(error.starts_with(reason), "{text}: {error}");
        }
    }

    #[test]
    fn no_bit_has_two_features_but_by_two_names() {
        for it in FEATURES {
            assert!(it.bits.iter().all(|(bit, _)| *bit < 32));
            assert!(it.bits.windows(2).all(|pair| pair[0].0 <= pair[1].0), "leaf {:#x}", it.leaf);
        }
    }
}
