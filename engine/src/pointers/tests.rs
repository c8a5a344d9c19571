//! What the table holds after events, in any order and repetition.

use super::*;

fn shown(image: u8) -> Shown {
    let manifest = ManifestId::from_bytes([image; 32]);
    Shown {
        image: ImageId::from(&manifest),
        manifest,
        released_at: UnixMillis(1),
        last_modified: UnixMillis(1),
        expires_at: None,
    }
}

#[test]
fn events_apply_in_any_repetition_and_old_ones_change_nothing() {
    let table = PointerTable::default();
    let (team, project_id) = (TeamId::random(), ProjectId::random());
    let name: ProjectName = "demo".parse().unwrap();
    let pointer =
        |number, shows| PointerEvent::Pointer { project_id, environment: EnvironmentName::prod(), number, shows };
    table.apply(pointer(1, Some(shown(1))));
    assert_eq!(table.find("demo", "prod"), None, "the project is not known yet");
    let settings = ProjectSettings::default();
    table.apply(PointerEvent::Project { team, project_id, name: name.clone(), settings, former_names: Vec::new() });
    table.apply(pointer(1, Some(shown(1))));
    table.apply(pointer(2, Some(shown(2))));
    table.apply(PointerEvent::Project { team, project_id, name, settings, former_names: Vec::new() });
    table.apply(pointer(1, Some(shown(1))));
    assert_eq!(table.find("demo", "prod").unwrap().number, 2);
    assert_eq!(table.find("demo", "beta"), None);
    assert_eq!((table.len(), table.shown()), (1, 1));
    table.apply(pointer(3, None));
    table.apply(pointer(2, Some(shown(2))));
    assert_eq!(table.find("demo", "prod"), None, "a removed pointer stays removed");
    assert_eq!((table.len(), table.shown()), (1, 0));
}

#[test]
fn settings_change_without_touching_pointers_and_old_ones_change_nothing() {
    let table = PointerTable::default();
    let (team, project_id) = (TeamId::random(), ProjectId::random());
    let change = |number, image_hosts| PointerEvent::Project {
        team,
        project_id,
        name: "demo".parse().unwrap(),
        settings: ProjectSettings { number, image_hosts },
        former_names: Vec::new(),
    };
    assert_eq!(table.image_hosts("demo"), None);
    table.apply(change(0, ImageHosts::Public));
    table.apply(PointerEvent::Pointer {
        project_id,
        environment: EnvironmentName::prod(),
        number: 1,
        shows: Some(shown(1)),
    });
    let hosts = || table.image_hosts("demo").map(|(_, hosts)| hosts);
    for (number, value, want) in [
        (2, ImageHosts::Off, ImageHosts::Off),
        (1, ImageHosts::Protected, ImageHosts::Off),
        (2, ImageHosts::Off, ImageHosts::Off),
        (0, ImageHosts::Public, ImageHosts::Off),
        (3, ImageHosts::Protected, ImageHosts::Protected),
    ] {
        table.apply(change(number, value));
        assert_eq!(hosts(), Some(want), "after {value:?} with number {number}");
        assert_eq!(table.find("demo", "prod").unwrap().number, 1);
    }
}

#[test]
fn a_renamed_project_keeps_what_it_shows_and_its_former_hosts_lead_on() {
    let table = PointerTable::default();
    let (team, first, second) = (TeamId::random(), ProjectId::random(), ProjectId::random());
    let (end, later) = (UnixMillis(1000), UnixMillis(2000));
    let called = |project_id, number, name: &str, former: &[(&str, UnixMillis)]| PointerEvent::Project {
        team,
        project_id,
        name: name.parse().unwrap(),
        settings: ProjectSettings { number, image_hosts: ImageHosts::Public },
        former_names: former
            .iter()
            .map(|(name, until)| FormerName { name: name.parse().unwrap(), until: *until })
            .collect(),
    };
    let shows = |name: &str| table.find(name, "prod").map(|pointer| pointer.project.to_string());
    let leads = |name: &str, now| table.renamed(name, UnixMillis(now)).map(|name| name.to_string());
    table.apply(called(first, 0, "old", &[]));
    table.apply(PointerEvent::Pointer {
        project_id: first,
        environment: EnvironmentName::prod(),
        number: 1,
        shows: Some(shown(1)),
    });
    assert_eq!(shows("old").as_deref(), Some("old"));

    table.apply(called(first, 1, "new", &[("old", end)]));
    table.apply(called(first, 0, "old", &[]));
    assert_eq!((shows("old"), shows("new").as_deref()), (None, Some("new")));
    assert_eq!((leads("old", 999).as_deref(), leads("old", 1000)), (Some("new"), None), "until its end");
    assert_eq!((table.len(), table.shown(), table.project("old")), (1, 1, None));

    // Each of its former names leads to the one that it has now, not from one to the next.
    table.apply(called(first, 2, "newer", &[("old", end), ("new", later)]));
    assert_eq!((leads("old", 0).as_deref(), leads("new", 1500).as_deref()), (Some("newer"), Some("newer")));
    table.apply(PointerEvent::Pointer {
        project_id: first,
        environment: EnvironmentName::prod(),
        number: 2,
        shows: Some(shown(2)),
    });
    assert_eq!(table.find("newer", "prod").unwrap().number, 2);

    // Back to a name that it had; the other one goes to another project.
    table.apply(called(first, 3, "old", &[("newer", later)]));
    table.apply(called(second, 0, "new", &[]));
    assert_eq!((leads("old", 0), leads("new", 0), leads("newer", 0).as_deref()), (None, None, Some("old")));
    table.apply(PointerEvent::ProjectDeleted { project_id: first });
    assert_eq!((leads("newer", 0), table.len(), table.shown()), (None, 1, 0), "nowhere, with the project gone");
}

#[test]
fn a_change_of_one_thing_leaves_the_others() {
    let table = PointerTable::default();
    let (team, project_id) = (TeamId::random(), ProjectId::random());
    let settings = ProjectSettings { number: 1, image_hosts: ImageHosts::Off };
    let (name, end): (ProjectName, _) = ("demo".parse().unwrap(), UnixMillis(1000));
    let former_names = vec![FormerName { name: "old".parse().unwrap(), until: end }];
    table.apply(PointerEvent::Project { team, project_id, name: name.clone(), settings, former_names });
    let release = |environment: &str, number, shows| PointerEvent::Pointer {
        project_id,
        environment: environment.parse().unwrap(),
        number,
        shows,
    };
    for (environment, image) in [("prod", 1), ("beta", 2), ("pr-7", 3), ("beta", 4)] {
        table.apply(release(environment, u64::from(image), Some(shown(image))));
    }
    table.apply(release("pr-7", 5, None));
    let check = |image_hosts, leads: Option<&str>| {
        let found = ["beta", "pr-7", "prod", "zz"].map(|environment| {
            let (by_name, by_id) = (table.find("demo", environment), table.find_by_id(&project_id, environment));
            assert_eq!(by_name, by_id, "{environment}");
            by_name.map(|pointer| pointer.number)
        });
        assert_eq!((found, table.shown()), ([Some(4), None, Some(1), None], 2));
        assert_eq!(table.image_hosts("demo").map(|(_, hosts)| hosts), Some(image_hosts));
        assert_eq!(table.renamed("old", UnixMillis(0)).as_deref(), leads);
    };
    check(ImageHosts::Off, Some("demo"));
    let settings = ProjectSettings { number: 2, image_hosts: ImageHosts::Public };
    table.apply(PointerEvent::Project { team, project_id, name, settings, former_names: Vec::new() });
    check(ImageHosts::Public, None);
    table.apply(release("pr-7", 4, Some(shown(3))));
    check(ImageHosts::Public, None);
}

#[test]
fn a_name_that_is_anothers_by_now_is_not_taken_back() {
    let table = PointerTable::default();
    let (team, first, second) = (TeamId::random(), ProjectId::random(), ProjectId::random());
    let called = |project_id, number, name: &str| PointerEvent::Project {
        team,
        project_id,
        name: name.parse().unwrap(),
        settings: ProjectSettings { number, image_hosts: ImageHosts::Public },
        former_names: Vec::new(),
    };
    let release = |project_id, number| PointerEvent::Pointer {
        project_id,
        environment: EnvironmentName::prod(),
        number,
        shows: Some(shown(1)),
    };
    // As a snapshot has it that is younger than the event by which the first gave the name up.
    for event in [called(first, 0, "demo"), called(second, 0, "demo"), release(second, 2)] {
        table.apply(event);
    }
    for event in [release(first, 1), called(first, 1, "demo"), called(first, 2, "other")] {
        table.apply(event);
        assert_eq!(table.find("demo", "prod").unwrap().project_id, second);
        assert_eq!(table.find_by_id(&first, "prod").unwrap().project_id, first);
    }
    assert_eq!(table.find("other", "prod").unwrap().project_id, first);
    table.apply(PointerEvent::ProjectDeleted { project_id: first });
    assert_eq!((table.find("other", "prod"), table.find("demo", "prod").unwrap().number), (None, 2));
}

#[test]
fn what_is_said_of_variants_is_read_and_found() {
    let (manifest, list) = (ManifestId::of(b"manifest"), VariantListId::of(b"list"));
    let table = PointerTable::default();
    for (event, want) in [
        (format!(r#"{{"type":"variants","manifest":"{manifest}","list":"{list}"}}"#), Some(list)),
        (format!(r#"{{"type":"variants","manifest":"{manifest}","list":null}}"#), None),
    ] {
        let read: PointerEvent = serde_json::from_str(&event).unwrap();
        assert_eq!(serde_json::to_string(&read).unwrap(), event);
        table.apply(read);
        assert_eq!(table.variants().list(&manifest), want);
    }
}

#[test]
fn events_without_settings_are_read() {
    let (team, project_id) = (TeamId::random(), ProjectId::random());
    let text = format!(r#"{{"type":"project","team":"{team}","project_id":"{project_id}","name":"demo"}}"#);
    let event: PointerEvent = serde_json::from_str(&text).unwrap();
    let settings = ProjectSettings { number: 0, image_hosts: ImageHosts::Public };
    let (name, former_names) = ("demo".parse().unwrap(), Vec::new());
    assert_eq!(event, PointerEvent::Project { team, project_id, name, settings, former_names });
}

#[test]
fn a_preview_is_over_at_its_time_and_kept_for_a_day() {
    let day = 24 * 60 * 60 * 1000;
    let lasting = shown(1);
    let preview = Shown { expires_at: Some(UnixMillis(1000)), ..shown(1) };
    for (now, expired, lapsed) in
        [(999, false, false), (1000, true, false), (999 + day, true, false), (1000 + day, true, true)]
    {
        let now = UnixMillis(now);
        assert_eq!((preview.is_expired(now), preview.has_lapsed(now)), (expired, lapsed), "{now:?}");
        assert_eq!((lasting.is_expired(now), lasting.has_lapsed(now)), (false, false), "{now:?}");
    }
}

#[test]
fn words_for_the_hosts_of_images() {
    for value in [ImageHosts::Public, ImageHosts::Protected, ImageHosts::Off] {
        assert_eq!(value.as_str().parse(), Ok(value));
        assert_eq!(serde_json::to_value(value).unwrap(), value.as_str(), "records and people use one word");
    }
    for wrong in ["", "Public", "on"] {
        assert_eq!(wrong.parse::<ImageHosts>(), Err(NotImageHosts), "{wrong:?}");
    }
}
