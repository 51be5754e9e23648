#!/usr/bin/env python3
"""Removes one sync, limit, fence or check at a time, in a copy, and expects a named test to fail.

    python3 tests/mutants.py              all mutations, about half a minute each on 2 cores
    python3 tests/mutants.py sums witness only these two
    python3 tests/mutants.py --check      only checks that the text of each mutation is in its file

A mutation is a text that must occur exactly once in its file, and its replacement. The run fails if a mutation does not compile, or if
its test still passes, because then nothing tests that promise any more. Some tests need the servers that tests/parts/install installs.
"""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
COPY = ROOT / "target" / "mutants" / "copy"
SRC = "runtime/src/"
INBOX, LEFTOVERS = SRC + "store/embedded/inbox.rs", SRC + "store/embedded/leftovers.rs"
ASIDE = SRC + "store/embedded/writer/aside.rs"
TARGETS = SRC + "targets/"
WRITER, OPEN, INDEX = SRC + "store/embedded/writer.rs", SRC + "store/embedded/open.rs", SRC + "index.rs"

# name, removed part, file, text, replacement, test target, test
MUTATIONS = [
    ("sync", "the sync of sled's file", WRITER,
     "(self.shared.options.sync)(&self.file).map_err(fatal)?;", "",
     "promises", "files::whichever_sync_fails_nothing_is_accepted_after_it_and_what_was_answered_is_there"),
    ("final", "a failed write is final", WRITER,
     "        let written = self.or_fail(written);\n        for (verdicts", "        for (verdicts",
     "promises", "files::whichever_sync_fails_nothing_is_accepted_after_it_and_what_was_answered_is_there"),
    ("watermark", "the watermark waits for the sync", WRITER,
     "        self.sync()?;\n        failpoint::pass(\"store.synced\");\n        self.shared.watermark.send_replace(Sequence(sequence));\n",
     "        self.shared.watermark.send_replace(Sequence(sequence));\n        self.sync()?;\n",
     "promises", "certain::what_is_not_durable_yet_is_not_answered_and_met_by_nobody_and_the_line_is_bounded"),
    ("turns", "the turns of the sources at the writer", INBOX,
     "waiting.min_by_key(|line| line.used)", "waiting.min_by_key(|_| 0)",
     "lib", "store::embedded::inbox::tests::a_source_waits_for_at_most_one_turn_of_another_that_queues_heavy_events"),
    ("moved", "the guard against mass withdrawal when keys move", SRC + "dispatch/flight.rs",
     "stale_keys.len() as u64 + u64::from(rendering.is_none())", "u64::from(rendering.is_none())",
     "lib", "dispatch::tests::guard::whatever_changes_no_more_than_the_guard_admits_is_deleted"),
    ("line", "the limit of waiting events", INBOX,
     "} else if !fits {", "} else if false {",
     "promises", "certain::what_is_not_durable_yet_is_not_answered_and_met_by_nobody_and_the_line_is_bounded"),
    ("fence", "walks stop at the watermark", SRC + "index/channel/walk.rs",
     ".take_while(|(place, _)| *place <= watermark)", "",
     "promises", "certain::what_is_not_durable_yet_is_not_answered_and_met_by_nobody_and_the_line_is_bounded"),
    ("longest", "the longest wait for quiet", SRC + "index/words.rs",
     "after(first, self.max).min(after(newest, self.quiet))", "after(newest.max(first), self.quiet)",
     "promises", "quiet::an_entity_that_is_never_quiet_is_met_after_the_longest_wait_also_over_a_crash"),
    ("set-aside", "what was set aside is known after a start", SRC + "index/channel.rs",
     "            self.waiting.insert(ordinal, lane, Timestamp(0));\n", "            let _ = lane;\n",
     "promises", "quiet::an_entity_that_is_never_quiet_is_met_after_the_longest_wait_also_over_a_crash"),
    ("set-back", "nobody waits for a clock that was set back", SRC + "index/channel/quiet.rs",
     "ends <= known.now || set_back", "ends <= known.now || set_back && false",
     "promises", "quiet::nobody_waits_for_a_clock_that_was_set_back"),
    ("aside-max", "the limit of what is set aside", SRC + "index/channel/quiet.rs",
     "self.waiting.len(lane_of(track)) < WAITING_MAX", "self.waiting.len(lane_of(track)) < usize::MAX",
     "lib", "index::channel::quiet::tests::when_too_many_are_set_aside_the_others_wait_at_their_places"),
    ("stopped", "a stop waits for channels that change over", SRC + "app.rs",
     "        *self.stopped.lock().await = true;\n", "",
     "lib", "app::tests::a_stop_waits_for_a_change_of_channels_that_has_begun_and_lets_no_other_begin"),
    ("decided", "a read waits for decided changes", SRC + "index/channel/flights.rs",
     "revision: Sequence(revision.max(newest)),", "revision: Sequence(revision),",
     "lib", "index::channel::tests::whoever_meets_a_place_waits_for_all_that_waited_there"),
    ("sums", "the sums of rows when the store opens", OPEN,
     "match sums.differs_from(&found) {", "match sums.differs_from(&found).filter(|_| false) {",
     "promises", "integrity::rows_that_fell_back_or_went_are_named"),
    ("witness", "the witness of the last sync", OPEN,
     "if sums.batch < seen {", "if false {",
     "promises", "integrity::damage_in_a_stopped_directory_is_named_and_never_silently_wrong"),
    ("cache", "the distrust of the page cache after a failure", WRITER,
     "self.witness.saw_failure();", "",
     "lib", "store::embedded::open::tests::the_page_cache_is_believed_until_a_sync_has_failed"),
    ("pieces", "the check of long values", SRC + "store/embedded/read.rs",
     "if xxh3_64(&whole) != *hash {", "if false {",
     "promises", "integrity::a_piece_of_a_long_value_is_checked_when_it_is_read"),
    ("attempt", "an attempt makes the target unknown", SRC + "index/channel/walk.rs",
     "channel.change(ordinal.0, Pair::attempted);", "channel.change(ordinal.0, |pair| pair);",
     "promises", "certain::an_attempt_without_an_answer_leaves_the_target_unknown"),
    ("restored", "the distrust of what a backup knew, after an interrupted restore", SRC + "store/embedded/backup.rs",
     "        batch.insert(keys::RESTORED, &[]);\n", "",
     "promises", "backup::a_store_whose_restore_was_interrupted_is_certain_of_nothing_either"),
    ("distrust", "the distrust of what was not saved", OPEN,
     "    index.distrust();\n", "",
     "promises", "certain::a_delivery_that_was_not_saved_before_a_crash_leaves_the_target_unknown"),
    ("ceiling", "sequences reserved ahead", WRITER,
     "self.ceiling = sequence + SEQUENCE_BLOCK;", "self.ceiling = 0;",
     "promises", "certain::a_sequence_that_was_seen_before_a_crash_is_not_given_out_again"),
    ("versions", "the check of versions", SRC + "index/relation.rs",
     "        .is_some_and(|(new, known)| new < known);\n", "        .is_some_and(|_| false);\n",
     "promises", "contract::an_older_version_never_wins"),
    ("identities", "the check for repeated events", WRITER,
     "Recall::Repeated => {\n                    verdicts.push(Verdict::Repeated);\n                    continue;\n                }",
     "Recall::Repeated => {}",
     "promises", "contract::a_repeated_event_is_recognised_after_a_crash_too"),
    ("shelf", "the limit of the quarantine", ASIDE,
     "(None, None) if known.events >= most => return Verdict::NoRoom(NoRoom::Quarantine),", "",
     "promises", "aside::what_is_set_aside_comes_back_as_it_was_and_loses_against_what_is_newer"),
    ("reused", "the check of the content of a known id", SRC + "store/embedded/identities.rs",
     "Some(_) => Recall::Reused,", "Some(_) => Recall::Repeated,",
     "promises", "contract::an_id_that_comes_with_another_content_is_told_apart_from_a_repetition"),
    ("discard", "a discarded event's id is forgotten", ASIDE,
     "heading.id.filter(|_| forget)", "heading.id.filter(|_| false)",
     "promises", "contract::an_event_that_was_discarded_can_be_sent_again_and_one_that_was_redriven_cannot"),
    ("alike", "an event in quarantine is kept once", ASIDE,
     "let alike = known.find(content);", "let alike: Option<Sequence> = None;",
     "promises", "aside::an_event_that_arrives_again_is_kept_once_as_its_last_arrival"),
    ("unread", "an item that cannot be read is kept", SRC + "ingest/source.rs",
     "if !unread.is_empty() && !done.is_stopped() {", "if false {",
     "lib", "ingest::tests::redriven::a_line_that_cannot_be_read_is_kept_as_its_bytes_until_it_is_redriven_or_dropped"),
    ("naming", "the id of a webhook is its event's", SRC + "ingest/naming.rs",
     "event.id = id.unwrap_or_default();", "let _ = id;",
     "lib", "ingest::tests::identities::a_late_retry_of_a_webhook_takes_nothing_back"),
    ("sealed", "the signature of the bytes as they are sent", SRC + "targets/http.rs",
     "seal(request.headers_mut(), body);", "seal(request.headers_mut(), &plain);",
     "lib", "targets::webhook::tests::a_compressed_body_is_signed_as_it_is_sent_and_a_short_one_is_not_compressed"),
    ("replaced", "the refresh token in place of the configured one", SRC + "targets/http/oauth2.rs",
     "            replaced.replace(next);", "            let _ = (replaced, next);",
     "lib", "targets::http::oauth2::tests::targets_with_the_same_refresh_token_replace_it_for_each_other"),
    ("credentials", "the note of replaced credentials", SRC + "app/apply.rs",
     "handle.take_credentials(&kept);", "let _ = kept;",
     "journeys", "reload::a_refresh_token_that_was_replaced_is_used_after_a_reload_and_a_restart_and_shown_nowhere"),
    ("recorded", "the age of a signature", SRC + "ingest/verify/scheme.rs",
     "if u128::from(difference) > tolerance {", "if difference > u64::MAX - 1 {",
     "lib", "ingest::verify::tests::a_recorded_request_is_refused_when_its_time_has_passed"),
    ("twice", "a signed member that is written twice is none", SRC + "ingest/verify/adyen.rs",
     "        (_, Some(_)) => None,\n        (found, None) =>", "        (found, _) =>",
     "lib", "ingest::verify::tests::what_adyen_signs_cannot_be_changed_and_what_is_written_twice_is_no_notification"),
    ("empty", "an empty secret matches nothing", SRC + "ingest/verify.rs",
     "        .filter(|secret| !secret.0.is_empty())\n", "",
     "lib", "ingest::verify::tests::an_empty_secret_lets_nobody_in"),
    ("challenge", "only a verified sender is answered", SRC + "ingest/handshake.rs",
     "verify::verify(&self.options().verify, asked.headers, body, now)?;", "let _ = (body, now);",
     "lib", "ingest::tests::challenged::slack_is_answered_if_it_has_signed"),
    ("quotes", "the check of quotes in CSV", SRC + "ingest/split/records.rs",
     "return Err(self.stray(\"opens a quote that is never closed\"));", "return Ok(());",
     "lib", "ingest::split::tests::a_stray_quote_names_its_record_and_nothing_of_the_body_is_taken"),
    ("family", "the deletion of a family", WRITER,
     "        for member in members {\n", "        for member in members.into_iter().take(0) {\n",
     "promises", "contract::the_deletion_of_a_family_deletes_what_its_owner_has_there"),
    ("entities", "the limit of entities", SRC + "store/embedded/writer/room.rs",
     "if most.is_some_and(|(name, most)| index.count(name) + of_type.len() as u64 > *most) {", "if false {",
     "promises", "contract::an_event_is_there_wholly_or_not_at_all"),
    ("reserve", "the reserve of free disk", SRC + "store/embedded.rs",
     "if free >= self.options.disk_reserve_bytes {", "if free < u64::MAX {",
     "promises", "files::a_full_disk_takes_nothing_and_goes_on_by_itself"),
    ("settled", "a facet is forgotten only when all channels have settled its entity", SRC + "index/forget.rs",
     "if !old.is_empty() && self.is_settled(ordinal) {", "if !old.is_empty() {",
     "promises", "reclaimed::a_deleted_facet_stays_until_every_channel_knows"),
    ("settings", "the check of sled's settings", LEFTOVERS,
     "    if !intact && (", "    if false && (",
     "promises", "files::a_flipped_bit_in_the_settings_does_not_damage_the_store"),
    ("leftover", "the removal of unfinished snapshots", LEFTOVERS,
     "            std::fs::remove_file(entry.path())?;\n", "",
     "promises", "files::a_start_that_was_interrupted_while_it_wrote_a_snapshot_does_not_damage_the_store"),
    ("interrupted", "the same, where a start is killed", LEFTOVERS,
     "            std::fs::remove_file(entry.path())?;\n", "",
     "journeys", "starts::a_start_that_was_killed_at_any_step_costs_nothing"),
    ("start-room", "the check of the free disk at a start", OPEN,
     "    has_disk_for(options, 0)?;\n", "",
     "journeys", "starts::a_start_with_hardly_any_disk_that_is_killed_or_cut_off_costs_nothing"),
    ("rescued", "the distrust of what a damaged store knew", SRC + "store/embedded/rescue.rs",
     "        copy.put(keys::RESTORED, &[])?;\n", "",
     "promises", "rescued::what_can_be_read_of_a_damaged_store_is_kept_and_nothing_that_it_knew_is_believed"),
    ("current", "the look for changes before a request", SRC + "dispatch/run/deliver.rs",
     "            let part = self.still_current(part);\n", "",
     "lib", "dispatch::tests::currency::an_entity_that_changes_all_the_time_is_sent_as_it_is_and_does_not_starve"),
    ("pace", "the fall of the rate", SRC + "dispatch/handle/judge.rs",
     "            pace.fall(now, sent, after.is_some());\n", "",
     "lib", "dispatch::tests::limits::a_target_with_a_limit_is_used_to_its_limit_and_one_entity_does_not_slow_it"),
    ("gate", "the brake of the requests in flight", SRC + "dispatch/handle/judge.rs",
     "        self.quota.learn(|gate| gate.accepted(now, answered));\n", "        let _ = answered;\n",
     "lib", "dispatch::tests::pace::a_target_that_becomes_slow_gets_fewer_requests_at_once_and_later_as_many_as_before"),
    ("back", "the rate of before an outage", SRC + "dispatch/handle/judge.rs",
     "            self.pace().back(self.clock.elapsed());\n", "",
     "lib", "dispatch::tests::pace::a_target_that_is_back_gets_what_it_bore_before_and_no_more"),
    ("jitter", "the spread of waits that a target asks for", SRC + "dispatch/handle/judge.rs",
     "        1.0 + JITTER * self.chance()", "        1.0 + 0.0 * JITTER * self.chance()",
     "lib", "dispatch::tests::pace::a_wait_is_kept_to_and_a_little_more_each_time_another_one"),
    ("cost", "the charge of a filled request", SRC + "dispatch/handle/permit.rs",
     "        self.handle.pace().charge(charge, cost);\n", "        let _ = cost;\n",
     "lib", "dispatch::tests::pace::a_rate_in_items_counts_what_is_in_the_requests"),
    ("retry-cost", "the real cost of a retry", SRC + "dispatch/run/settle.rs",
     "        self.budget.settle(made);", "        self.budget.settle(Made { entities: 100 * made.entities, first: 100 * made.first, ..made });",
     "lib", "dispatch::tests::pace::retries_are_bounded_in_requests_also_where_requests_do_not_fill"),
    ("once-more", "the hour before refused entities are tried again", SRC + "dispatch/run/take.rs",
     ".filter(|refused| now.0.saturating_sub(refused.time.0) as u128 >= after.as_millis())", "",
     "lib", "dispatch::tests::refused::a_child_before_its_parent_is_tried_until_the_attempts_are_used_up_and_later_at_times"),
    ("refused", "the number of refused entities that wait for another attempt", SRC + "dispatch/run/take.rs",
     "            .take(room)\n", "",
     "lib", "dispatch::tests::refused::many_refused_entities_that_are_due_at_once_stop_nothing"),
    ("silence", "time in which nothing was to be sent is no silence", SRC + "dispatch/pace.rs",
     "        if waited {\n            self.lasted", "        if waited || true {\n            self.lasted",
     "lib", "dispatch::pace::tests::time_in_which_nothing_was_to_be_sent_is_not_silence"),
    ("below", "the lower rate after a refusal that asks for a wait", SRC + "dispatch/pace.rs",
     "const BELOW_A_WAIT: f64 = 0.95;", "const BELOW_A_WAIT: f64 = 1.0;",
     "lib", "dispatch::pace::tests::the_rate_of_a_target_is_found_and_found_again_when_it_changes"),
    ("longer", "a longer batch after many full ones", SRC + "dispatch/request_size.rs",
     "            Some(refused) if self.full >= FULL_MAX => refused.saturating_add(refused / 8),\n", "",
     "lib", "dispatch::request_size::tests::a_longer_batch_is_tried_now_and_then"),
    ("second-room", "the room for a second full request", SRC + "dispatch/run.rs",
     "ROOM_MAX.max(REQUESTS_IN_FLIGHT * self.batch())", "ROOM_MAX.max(self.batch())",
     "lib", "dispatch::tests::growing::a_backlog_goes_in_full_requests_and_two_of_them_are_in_flight"),
    ("urgent-linger", "the short wait of what is urgent for others", SRC + "dispatch/run.rs",
     "            0 => LINGER,\n", "",
     "lib", "dispatch::tests::growing::what_is_urgent_does_not_wait_until_a_long_request_is_full"),
    ("index", "the look before a write that would create the index", SRC + "targets/search.rs",
     "(!engine.creates(index)).then_some(index)", "Some(index)",
     "lib", "targets::search::tests::look::an_index_that_a_write_would_create_is_looked_for_before_each_write"),
    ("permit", "the release of a permit whose entity needs no request", SRC + "dispatch/run/settle.rs",
     "            self.release_permits(&ended);\n", "            let _ = ended;\n",
     "lib", "dispatch::tests::currency::a_slot_whose_entity_needs_no_request_is_used_for_the_next_one_at_once"),
    ("pieces-out", "a connection is idle when its whole response is out", SRC + "server/pulse.rs",
     "if writing && !state.unfinished {", "if writing {",
     "lib", "server::pulse::tests::a_connection_is_not_idle_before_the_last_piece_of_its_response_is_out"),
    ("stream-rights", "the rights of who reads a stream, before each event", SRC + "server/viewer.rs",
     "if let Err(problem) = self.may_see() {",
     "if let (true, Err(problem)) = (false, self.may_see()) {",
     "lib", "server::tests::streams::a_token_that_is_removed_sees_nothing_more"),
    ("tap-rights", "the rights of who reads a tap, before each event", SRC + "server/viewer.rs",
     "if let Err(problem) = self.may_see() {",
     "if let (true, Err(problem)) = (false, self.may_see()) {",
     "lib", "server::tests::taps::a_token_that_is_removed_sees_no_further_item"),
    ("tap-choice", "an item is chosen before its story is made", SRC + "tap.rs",
     "            state.figures.skipped += 1;\n            state.gap += 1;\n            return;\n", "",
     "lib", "tap::tests::nothing_is_made_of_what_is_not_taken"),
    ("tap-buffer", "the bound of what waits for the reader of a tap", SRC + "tap.rs",
     "if state.items.len() == ITEMS_MAX || state.bytes >= BYTES_MAX {", "if false {",
     "lib", "tap::tests::who_does_not_read_costs_a_fixed_memory_and_learns_what_is_missing"),
    ("tap-secrets", "headers of the configuration are not shown by a tap", SRC + "targets/http/witness.rs",
     "value.is_sensitive()", "false",
     "lib", "dispatch::tests::tapped::a_request_is_told_with_its_answer_and_without_secrets"),
    ("stream-stop", "a stop ends streams at once", SRC + "server/pulse.rs",
     "matches!(phase, Phase::Idle | Phase::Head | Phase::Streaming)", "matches!(phase, Phase::Idle | Phase::Head)",
     "lib", "server::tests::streams::a_stop_ends_streams_at_once"),
    ("session-origin", "the origin of a change with a session", SRC + "server/access.rs",
     "if !method.is_safe() && !headers.contains_key(AUTHORIZATION) && !headers.contains_key(ORIGIN)", "if false",
     "lib", "server::access::tests::a_change_with_a_session_carries_this_host_s_origin"),
    ("cut", "the bound on all values of a response for people", SRC + "server/views/cut.rs",
     "        self.left -= start.len();\n", "",
     "lib", "server::views::cut::tests::the_values_of_a_response_are_bounded_together"),
    ("foresight", "what earlier changes of an event would have made", SRC + "store/foresight.rs",
     "        Some(at) => facets[at] = facet,\n", "        Some(at) => drop((at, facet)),\n",
     "promises", "foreseen::what_is_foreseen_is_what_happens"),
    ("linger", "a connection that is read empty makes room", SRC + "server/connection.rs",
     "            () = closed => {}\n", "            () = closed, if false => {}\n",
     "lib", "server::tests::floods::a_connection_that_is_only_read_empty_makes_room_at_once"),
    ("memory", "the bound on the bytes of a channel", SRC + "dispatch/run/deliver.rs",
     "with <= free.min(RESERVED_BYTES_MAX)", "true",
     "lib", "dispatch::tests::batches::large_renderings_for_a_slow_target_are_few_at_a_time"),
    ("jumps", "the room for the renderings of one preparation", SRC + "dispatch/prepare.rs",
     "Room::apart(bytes as u64, self.alone)", "Room::apart(bytes as u64 * 1_000_000, self.alone)",
     "lib", "dispatch::tests::batches::renderings_that_become_much_larger_keep_within_the_memory_of_the_channel"),
    ("too-long", "what a 413 taught", SRC + "dispatch/handle/judge.rs",
     "Some(Outcome::Split { too_long: true, .. }) => size.refused(bytes),", "Some(Outcome::Split { too_long: true, .. }) => {}",
     "lib", "dispatch::tests::batches::what_a_413_taught_is_remembered"),
    ("arrivals", "slow bodies give way when memory is short", SRC + "server/arrivals.rs",
     ".filter(|(_, entry)| entry.held > 0 && entry.pace.is_slow(now))", ".filter(|_| false)",
     "lib", "server::arrivals::tests::a_body_that_is_held_back_gives_way"),
    ("share", "a source leaves memory to the others", SRC + "budget.rs",
     "(!alone && of_source + more > free - more)", "false",
     "lib", "budget::tests::a_source_takes_no_more_than_it_leaves_to_the_others"),
    ("crowd", "a full listener closes idle connections", SRC + "server/crowd.rs",
     "let leaves = members.make_room(taken - for_all + 1, self.max, now);", "let leaves = false;",
     "lib", "server::tests::floods::idle_connections_make_room_for_new_ones"),
    ("behind", "half a head behind a request is not idle", SRC + "server/wire.rs",
     "let pipelined = self.pipelined || !ended;", "let pipelined = false;",
     "lib", "server::pulse::tests::half_a_head_behind_a_request_has_the_time_of_a_head"),
    ("room", "the room for the results of a request", SRC + "plugin/room.rs",
     "(first || taken + bytes <= self.bytes_max).then_some(taken + bytes)", "Some(taken + bytes)",
     "lib", "plugin::room::tests::results_take_what_is_there_and_one_always_fits"),
    ("counted", "items are counted before they are collected", SRC + "ingest/json.rs",
     "while items.len() < self.0 {", "while self.0 > 0 {",
     "lib", "ingest::json::tests::items_and_members_are_counted_before_they_are_collected"),
    ("page", "large events are read a few at a time", SRC + "store/embedded/quarantine.rs",
     "if events.len() == limit || read >= READ_BYTES_MAX {", "if events.len() == limit {",
     "bounds", "requests::large_events_in_quarantine_are_shown_and_redriven_a_few_at_a_time"),
    ("unbroken", "the exit after a panic halfway", SRC + "dispatch/abort_on_panic.rs",
     "std::process::exit(exit::BROKEN.into());", "",
     "journeys", "windows::after_a_panic_in_any_window_no_change_is_lost"),
    ("lanes", "the workers of their own for heavy plugins", SRC + "plugin/queue.rs",
     "Standing::Heavy => Lane::Heavy,", "Standing::Heavy => Lane::Quick,",
     "lib", "plugin::tests::sharing::any_number_of_looping_plugins_leaves_the_others_as_quick_as_elsewhere"),
    ("idle", "the limit of idle instances in bytes", SRC + "plugin/pool.rs",
     "idle.count >= HELD_MAX || idle.bytes + bytes > self.bytes_max", "idle.count >= HELD_MAX",
     "lib", "plugin::tests::sharing::idle_instances_are_bounded_in_bytes_for_all_plugins_together"),
    ("seal", "the authentication of compiled code", SRC + "plugin/seal.rs",
     "            .verify_slice(code)\n            .map_err(|_| Unsealed::Forged)?;", "            .verify_slice(code)\n            .ok();",
     "lib", "plugin::seal::tests::what_was_cut_changed_or_written_for_another_purpose_is_not_read"),
    ("kept", "the component that served last at a start", SRC + "app/load.rs",
     "if self.before.contains_key(name) {", "if true {",
     "journeys", "held_back::a_start_falls_back_to_the_component_that_served_last"),
    ("newcomers", "the heavy workers' independence of new plugins", SRC + "plugin/queue.rs",
     "lane == Lane::Quick && standing(", "standing(",
     "lib", "plugin::tests::sharing::batches_on_slower_workers_and_those_of_new_plugins_do_not_wait_for_each_other"),
    ("refusals", "the memory of refused components", SRC + "plugin/component.rs",
     "if let Some(why) = self.refusals.find(sha256, limits) {", "if let Some(why) = self.refusals.find(sha256, limits).filter(|_| false) {",
     "lib", "plugin::tests::what_the_compiler_refused_is_refused_at_once_and_what_kept_it_from_trying_is_not"),
    ("together", "requests for a reload that are served together", SRC + "app/reload.rs",
     "while let Ok(another) = requests.try_recv() {", "while let Err(another) = Ok::<(), Request>(()) {",
     "lib", "app::reload::tests::requests_that_arrive_during_a_reload_are_served_by_one_more"),
    ("aside", "compiling a moved component before the turn", SRC + "app/load.rs",
     "        !self.moved.contains(name)\n            && *before", "        *before",
     "lib", "app::tests::a_component_is_compiled_before_the_turn_also_if_its_file_has_moved"),
    ("rejected", "the watch on the files of a rejected configuration", SRC + "app/watch.rs",
     "in_use.files.extend(read.files.iter().cloned());", "",
     "lib", "app::tests::a_mistake_that_is_mended_in_an_included_file_is_noticed"),
    ("quota", "the quota of a plugin's log", SRC + "plugin/quota.rs",
     "if minute.used <= BYTES_MAX {", "if true {",
     "lib", "plugin::quota::tests::the_log_of_a_minute_is_bounded_and_what_was_dropped_is_counted"),
    ("remembers", "the check of calls in a new instance", SRC + "plugin/pool.rs",
     "if instance.calls() > 1 && binding.component().counter().samples(SAMPLED) {", "if false {",
     "lib", "plugin::tests::sharing::a_plugin_that_remembers_earlier_calls_is_counted_unless_it_is_strict"),
    ("compared", "the comparison of a new version with the one in use", SRC + "app/trial.rs",
     "if !comparison.must_be_confirmed() ||", "if true ||",
     "journeys", "held_back::a_mapper_that_maps_nothing_any_more_waits_for_a_confirmation"),
    ("kinds", "the check of a file's kind", SRC + "files.rs",
     "if let Some(kind) = special(metadata.file_type()) {", "if let Some(kind) = special(metadata.file_type()).filter(|_| false) {",
     "lib", "files::tests::what_is_no_regular_file_of_the_allowed_size_is_not_read"),
    ("links", "links on the way to a watched file", SRC + "files/trail.rs",
     "                    entries.insert(entry);\n                    rest.extend", "                    rest.extend",
     "lib", "files::trail::tests::each_link_on_the_way_decides_and_so_does_the_file_at_its_end"),
    ("controls", "the escaping of control characters", SRC + "plain.rs",
     "    character.is_control()\n", "    false\n",
     "lib", "cli::log::tests::no_text_can_forge_an_event_or_colour_a_terminal"),
    ("quoted", "the silence about included files that are not TOML", SRC + "config.rs",
     "if let (Some((offset, what)), true) = (error, included) {", "if let (Some((offset, what)), true) = (error, false) {",
     "lib", "plan::tests::files::nothing_of_an_included_file_that_is_not_toml_is_repeated"),
    ("file-sync", "a file of an entity is synced before it gets its name", SRC + "targets/file/folder.rs",
     "        file.sync_data()?;\n        rustix::fs::renameat", "        rustix::fs::renameat",
     "journeys", "files::files_and_lines_survive_power_cuts_and_hold_the_newest_state"),
    ("feed-late", "a feed in a bucket is looked at again after a request without an answer", SRC + "targets/feed/put.rs",
     "again = unanswered.map(|since| since + late);", "again = None;",
     "lib", "targets::feed::tests::put::a_write_that_arrives_after_its_successor_is_noticed_and_undone"),
    ("row-guard", "the guard of rows", TARGETS + "postgres/table.rs",
     "format!(\"({stored} IS NULL OR {stored} <= {sent}{foreign})\")", "format!(\"({stored} IS NULL OR {stored} <= {sent} OR true{foreign})\")",
     "lib", "targets::postgres::tests::rows::states_are_written_over_older_ones_and_never_over_newer_ones"),
    ("row-again", "a row may be written again in the same state", TARGETS + "postgres/table.rs",
     "{stored} <= {sent}{foreign})", "{stored} < {sent}{foreign})",
     "lib", "targets::postgres::tests::rows::a_state_that_was_spoiled_by_hand_is_written_again"),
    ("newest", "the newest state of a key in a statement", TARGETS + "postgres/rows.rs",
     "let older = if rank(at) >= rank(*known) {", "let older = if true {",
     "lib", "targets::postgres::tests::rows::two_states_of_a_key_in_one_attempt_are_one_row_of_the_newest"),
    ("table-mark", "the place up to which a database has acknowledged", TARGETS + "postgres/mark.rs",
     "} else if now.log < last.log {", "} else if false {",
     "lib", "targets::postgres::tests::forgot::a_database_that_was_restored_is_noticed_and_gets_nothing_until_it_starts_over"),
    ("age", "the age of connections to a database", TARGETS + "postgres/pool.rs",
     "&& conn.since.elapsed() < age_max {", "&& age_max > Duration::ZERO {",
     "lib", "targets::postgres::tests::connections::no_connection_is_used_for_longer_than_half_an_hour"),
    ("whole", "only whole generations of a feed", TARGETS + "feed/publish.rs",
     "publisher.complete.swap(complete, Ordering::SeqCst)", "publisher.complete.swap(true, Ordering::SeqCst)",
     "lib", "targets::feed::tests::nothing_is_published_while_the_channel_has_not_met_everything"),
    ("shrank", "the guard against feeds that shrink", TARGETS + "feed/disk/build.rs",
     "if (records as f64) < most as f64 * (1.0 - wanted.shrink_max) {", "if (records as f64) < most as f64 * 0.0 {",
     "lib", "targets::feed::tests::a_generation_that_shrank_waits_for_an_operator"),
    ("shorter", "the length that a file of lines has acknowledged", TARGETS + "file/lines.rs",
     "&& there < acknowledged\n", "&& acknowledged < 1\n",
     "lib", "targets::file::tests::a_file_that_has_become_shorter_has_forgotten_what_it_acknowledged"),
    ("folder", "the mark of a folder", TARGETS + "file/objects.rs",
     "&& found.as_deref().map(str::as_bytes) != Some(&*known)", "&& known.is_empty()",
     "lib", "targets::file::tests::a_folder_that_is_missing_emptied_or_another_one_is_noticed"),
    ("message-guard", "the guard of messages", TARGETS + "nats.rs",
     "header::NATS_EXPECTED_LAST_SUBJECT_SEQUENCE,\n", "\"weir-expected\",\n",
     "lib", "targets::nats::tests::guard::messages_that_come_late_replace_nothing"),
    ("stream-mark", "the sequence that a stream has acknowledged", TARGETS + "nats/stream.rs",
     "(stream.last < self.last).then(", "(stream.last < self.last && false).then(",
     "lib", "targets::nats::tests::forgotten::a_stream_that_ends_before_what_it_acknowledged_has_forgotten"),
    ("anew", "a stream that acknowledges what it cannot", TARGETS + "nats.rs",
     "if !duplicate && seq <= before {", "if false {",
     "lib", "targets::nats::tests::forgotten::a_stream_that_was_made_anew_has_forgotten_also_for_who_was_connected"),
    ("ahead", "a target that is ahead of Weir", TARGETS + "broker.rs",
     "} else if sequence <= limits.head {", "} else if true {",
     "lib", "targets::nats::tests::guard::a_state_that_this_weir_has_never_given_out_is_said_and_overwritten_only_when_allowed"),
    ("second-look", "the second look of a drift check", SRC + "dispatch/drift.rs",
     "        if !again {\n            self.suspects", "        if false {\n            self.suspects",
     "lib", "dispatch::tests::drift::what_is_right_at_the_second_look_and_what_is_owed_are_no_differences"),
]


def place(mutation):
    """The path of the file in the copy and its text; exits unless the text of the mutation occurs there exactly once."""
    name, _, file, before, *_ = mutation
    text = (ROOT / file).read_text()
    if text.count(before) != 1:
        sys.exit(f"{name}: its text must occur once in {file}, but occurs {text.count(before)} times:\n{before}")
    return COPY / file, text


def copy():
    """Copies all files that git tracks or would track, in their current state."""
    known = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, check=True, capture_output=True, text=True)
    for file in filter(lambda file: (ROOT / file).is_file(), known.stdout.split("\n")):
        target = COPY / file
        target.parent.mkdir(parents=True, exist_ok=True)
        if not target.exists() or target.read_bytes() != (ROOT / file).read_bytes():
            shutil.copyfile(ROOT / file, target)


def test(target, name):
    """Runs a test. Returns `passes`, `fails`, or the message of the compiler."""
    chosen = ["--lib"] if target == "lib" else ["--test", target]
    command = ["cargo", "test", "-q", "-p", "weir", *chosen, "--", "--exact", name]
    environment = {"CARGO_TARGET_DIR": str(ROOT / "target" / "mutants" / "target"), **os.environ}
    done = subprocess.run(command, cwd=COPY, env=environment, capture_output=True, text=True)
    if "running 1 test" not in done.stdout:
        return "does not compile, or there is no such test:\n" + done.stderr[-3000:]
    return "passes" if done.returncode == 0 else "fails"


def main(arguments):
    chosen = [mutation for mutation in MUTATIONS if mutation[0] in arguments or not set(arguments) - {"--check"}]
    names = [mutation[0] for mutation in MUTATIONS]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        sys.exit(f"two mutations have the same name: {', '.join(twice)}")
    unknown = set(arguments) - {"--check"} - {mutation[0] for mutation in chosen}
    if unknown:
        sys.exit(f"no such mutation: {', '.join(sorted(unknown))}")
    for mutation in chosen:
        place(mutation)
    if "--check" in arguments:
        return print(f"the texts of {len(chosen)} mutations are in their files")
    copy()
    survivors = []
    print(f"{'removed':45} {'test':14} seconds")
    for mutation in chosen:
        (path, text), (name, what, _, before, after, target, story) = place(mutation), mutation
        started = time.monotonic()
        path.write_text(text.replace(before, after))
        verdict = test(target, story)
        path.write_text(text)
        print(f"{what:45} {verdict:14} {time.monotonic() - started:7.0f}  {story}", flush=True)
        if verdict != "fails":
            survivors.append(name)
    if survivors:
        sys.exit(f"their tests did not fail: {', '.join(survivors)}")


if __name__ == "__main__":
    main(sys.argv[1:])
