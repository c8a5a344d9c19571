//! What a site adds to the memory of every server, whether anybody asks for it or not: its part of the pointer table.

use std::alloc::System;

use cap::Cap;
use pinstone_engine::clock::UnixMillis;
use pinstone_engine::hash::ManifestId;
use pinstone_engine::id::{ImageId, ProjectId, TeamId};
use pinstone_engine::name::EnvironmentName;
use pinstone_engine::pointers::{PointerEvent, PointerTable, ProjectSettings, Shown};

#[global_allocator]
static ALLOCATOR: Cap<System> = Cap::new(System, usize::MAX);

const SITES: usize = 20_000;
/// Bytes, with its part of the hash tables.
const MOST: usize = 400;

fn publish(table: &PointerTable, team: TeamId, number: usize) {
    let (project_id, manifest) = (ProjectId::random(), ManifestId::of(&number.to_le_bytes()));
    table.apply(PointerEvent::Project {
        team,
        project_id,
        name: format!("site-{number:06}").parse().expect("a plain name"),
        settings: ProjectSettings::default(),
        former_names: Vec::new(),
    });
    let shown = Shown {
        image: ImageId::from(&manifest),
        manifest,
        released_at: UnixMillis(1),
        last_modified: UnixMillis(1),
        expires_at: None,
    };
    let environment = EnvironmentName::prod();
    table.apply(PointerEvent::Pointer { project_id, environment, number: 1, shows: Some(shown) });
}

#[test]
fn a_site_is_small() {
    let (table, team) = (PointerTable::default(), TeamId::random());
    let before = ALLOCATOR.allocated();
    (0..SITES).for_each(|number| publish(&table, team, number));
    let each = (ALLOCATOR.allocated() - before) / SITES;
    eprintln!("a site of one environment: {each} bytes in memory");
    assert_eq!((table.len(), table.shown()), (SITES, SITES));
    assert!(each <= MOST, "a site takes {each} bytes, not {MOST}");
}
