//! db-server, a VM of each size for a controller that asks for it.

use super::Choice;
use super::boots::machine_mib;
use super::figures::{Figures, field, number};
use super::machines::{Bench, BenchError};

/// Enters what the controller waited for each VM.
pub(super) fn sizes(bench: &Bench, choice: &Choice, figures: &mut Figures) -> Result<(), BenchError> {
    let kernel = |name: &str| bench.top.join("build/kernels").join(name).display().to_string();
    let sizes: Vec<String> = choice.sizes().iter().map(u64::to_string).collect();
    let asker = format!(
        "name = \"asker\"\nkernel = \"{}\"\nmemory = 16\ndomid = 1\nextra = \"role=sizes memory={}\"\n",
        kernel("controller"),
        sizes.join(",")
    );
    bench.write("asker.cfg", asker.as_bytes())?;
    let platform = format!(
        "[server]\nimages = {{ worker = \"{}\" }}\n\n\
         [[controller]]\nvm = \"asker\"\nmemory = {}\nvms = {}\nimages = [\"worker\"]\norphans = \"destroy\"\n\n\
         [[vm]]\nfile = \"asker.cfg\"\n",
        kernel("first"),
        choice.sizes().iter().sum::<u64>(),
        sizes.len()
    );
    let platform = bench.write("asker.toml", platform.as_bytes())?;
    let console = bench.db_server("requests", &platform, machine_mib(choice, 64))?;
    for line in console.lines().filter(|line| line.contains("BENCH name=request ")) {
        if let (Some(memory), Some(took)) = (field(line, "memory"), number(line, "took")) {
            figures.enter(format!("build-{memory}.db-server.time"), took);
        }
    }
    Ok(())
}
