"""A calendar used by the library `caldav`: library.py URL"""
import datetime
import sys

import caldav
from caldav.lib.error import NotFoundError

url = sys.argv[1]
utc = datetime.timezone.utc
client = caldav.DAVClient(f"{url}/dav/")
principal = client.principal()
calendars = {calendar.name: calendar for calendar in principal.calendars()}
assert list(calendars) == ["personal"], calendars

work = principal.make_calendar(name="Arbeit & mehr", cal_id="work")
assert {c.name for c in principal.calendars()} == {"personal", "Arbeit & mehr"}

meeting = work.save_event(
    dtstart=datetime.datetime(2026, 11, 28, 10, tzinfo=utc),
    dtend=datetime.datetime(2026, 11, 28, 11, tzinfo=utc),
    summary="Büro & <x>",
)
weekly = work.save_event(
    """BEGIN:VCALENDAR
VERSION:2.0
PRODID:test
BEGIN:VEVENT
UID:weekly
DTSTAMP:20260101T000000Z
DTSTART:20260105T090000Z
DURATION:PT1H
RRULE:FREQ=WEEKLY;UNTIL=20260401T000000Z
SUMMARY:Every week
END:VEVENT
END:VCALENDAR
"""
)
task = work.save_todo(summary="Buy milk", due=datetime.datetime(2026, 11, 30, tzinfo=utc))


def summaries(found):
    return sorted(str(one.icalendar_component["summary"]) for one in found)


def between(start, end):
    start, end = (datetime.datetime(*day, tzinfo=utc) for day in (start, end))
    return summaries(work.search(start=start, end=end, event=True, expand=False))


assert summaries(work.events()) == ["Büro & <x>", "Every week"]
assert summaries(work.todos()) == ["Buy milk"]
assert between((2026, 11, 28), (2026, 11, 29)) == ["Büro & <x>"]
assert between((2026, 11, 29), (2026, 11, 30)) == []
assert between((2026, 3, 2), (2026, 3, 3)) == ["Every week"]
assert between((2026, 3, 3), (2026, 3, 9)) == []
assert between((2026, 5, 1), (2026, 6, 1)) == []
assert summaries(work.search(event=True, summary="büro")) == []
assert summaries(work.search(event=True, summary="Büro &")) == ["Büro & <x>"]
assert work.event_by_uid("weekly").url == weekly.url

known = work.objects_by_sync_token(load_objects=True)
assert len(list(known)) == 3
meeting.icalendar_component["summary"] = "Moved"
meeting.save()
task.delete()
updated, deleted = known.sync()
assert (len(list(updated)), len(list(deleted))) == (1, 1), (updated, deleted)
assert summaries(updated) == ["Moved"]
updated, deleted = known.sync()
assert (len(list(updated)), len(list(deleted))) == (0, 0), (updated, deleted)

work.delete()
assert [c.name for c in principal.calendars()] == ["personal"]
try:
    work.events()
    sys.exit("the calendar is still there")
except NotFoundError:
    pass
