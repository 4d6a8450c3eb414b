//! Which VMs could never start.
#![allow(missing_docs, reason = "a test's name says what it checks")]

use protocols::order::disorders;
/// The disorders of VMs and what they start after, each as `name: why`.
fn found(vms: &[(&str, &[&str])]) -> Vec<String> {
    let after = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
    let vms: Vec<(&str, Vec<String>)> = vms.iter().map(|(name, names)| (*name, after(names))).collect();
    let nodes: Vec<_> = vms.iter().map(|(name, after)| (*name, after.as_slice())).collect();
    disorders(&nodes).into_iter().map(|(index, error)| format!("{}: {error}", nodes[index].0)).collect()
}

#[test]
fn an_order_is_none_whatever_the_order_of_the_files() {
    assert!(found(&[("c", &["a", "b"]), ("b", &["a"]), ("a", &[]), ("d", &["c", "a"])]).is_empty());
}

#[test]
fn a_name_that_no_vm_has_is_found() {
    let expected = ["a: it is to start after \"x\", and there is no VM of that name"];
    assert_eq!(found(&[("a", &["b", "x"]), ("b", &[])]), expected);
}

#[test]
fn each_vm_on_a_cycle_is_found_with_its_shortest_way_and_no_other() {
    assert_eq!(found(&[("a", &["a"])]), ["a: it would wait for itself: a starts after a"]);
    let expected = [
        "a: it would wait for itself: a starts after b starts after c starts after a",
        "b: it would wait for itself: b starts after c starts after a starts after b",
        "c: it would wait for itself: c starts after a starts after b starts after c",
    ];
    assert_eq!(
        found(&[("a", &["b"]), ("b", &["d", "c"]), ("c", &["a"]), ("d", &[]), ("e", &["a"])]),
        expected
    );
}

#[test]
fn many_ways_between_vms_take_no_time() {
    // Ten layers of ten, each VM after all of the layer before: ten thousand million ways.
    let name = |layer: usize, number: usize| format!("l{layer}n{number}");
    let vms: Vec<(String, Vec<String>)> = (0..100)
        .map(|index| (index / 10, index % 10))
        .map(|(layer, number)| {
            let before = if layer == 0 { 0 } else { 10 };
            (name(layer, number), (0..before).map(|number| name(layer - 1, number)).collect())
        })
        .collect();
    let nodes: Vec<_> = vms.iter().map(|(name, after)| (name.as_str(), after.as_slice())).collect();
    assert!(disorders(&nodes).is_empty());
}
