"""Pages of a report: feedback for a student, a summary for the instructor, how a class predicts.

Whatever a name or message holds is text.
"""

import functools
import re

_STYLE = """
:root { color-scheme: light dark; --text: #1b1b1b; --quiet: #555; --back: #fff; --card: #f5f5f2; --line: #ccc; }
@media (prefers-color-scheme: dark) {
  :root { --text: #eee; --quiet: #bbb; --back: #161616; --card: #242424; --line: #555; }
  a { color: #8ec7ff; }
}
body { font: 1rem/1.5 system-ui, sans-serif; color: var(--text); background: var(--back); max-width: 50rem;
  margin: 2rem auto; padding: 0 1rem; overflow-wrap: anywhere; }
h1 { font-size: 1.4rem; } h2 { font-size: 1.1rem; margin: 0; }
section, .total { background: var(--card); border: 1px solid var(--line); border-radius: .5rem; padding: .8rem 1rem;
  margin: 1rem 0; break-inside: avoid; }
.message { white-space: pre-wrap; margin: .5rem 0; } .quiet { color: var(--quiet); margin: .2rem 0; }
.total strong { font-size: 1.4rem; } img { width: 100%; background: #fff; border-radius: .3rem; }
table { border-collapse: collapse; width: 100%; } th, td { text-align: left; padding: .2rem .6rem .2rem 0;
  border-bottom: 1px solid var(--line); vertical-align: top; } td.number, th.number { text-align: right;
  white-space: nowrap; }
@media print { :root { --text: #000; --quiet: #333; --back: #fff; --card: #fff; } body { margin: 0; max-width: none; } }
"""

_FRAME = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; img-src data:">
<title>{% block title %}{% endblock %}</title>
<style>{{ style }}</style>
</head>
<body>
{% block body %}{% endblock %}
</body>
</html>
"""

_FEEDBACK = """{% extends "frame" %}
{% block title %}{{ slug|clean }} · {{ student|clean }}{% endblock %}
{% block body %}
<h1>{{ slug|clean }}</h1>
<p>{{ student|clean }}</p>
<div class="total"><strong>{{ score|number }} of {{ max_score|number }} points</strong>
{%- if output %}
<div class="message">{{ output|clean }}</div>{% endif %}</div>
{% for test in tests %}
<section>
<h2>{{ test.name|clean }} · {{ test.score|number }} of {{ test.max_score|number }} points · {{ test.verdict }}</h2>
<div class="message">{{ test.output|clean }}</div>
{%- if test.counts %}
<p class="quiet">{{ test.counts }}</p>{% endif %}
<p class="quiet"><a href="{{ test.href }}">{{ test.lesson|clean }}</a></p>
</section>
{% endfor %}
{%- if notes %}
<section>
<h2>About your notebook</h2>
<ul>
{%- for note in notes %}
<li>{{ note|clean }}</li>
{%- endfor %}
</ul>
</section>
{%- endif %}
{% endblock %}
"""

_SUMMARY = """{% extends "frame" %}
{% block title %}{{ slug|clean }} · summary{% endblock %}
{% block body %}
<h1>{{ slug|clean }} · {{ students|length }} submissions</h1>
<p>Sandbox: {{ sandbox|clean }}.
{%- if unsafe %} <strong>Submissions ran without a sandbox: a score may be what its student made of it.</strong>
{%- endif %}</p>
{% for title, (address, alt) in pictures %}
<section><h2>{{ title }}</h2><img src="{{ address }}" alt="{{ alt|clean }}"></section>
{% endfor %}
{% for question in questions %}
<section>
<h2>{{ question.name|clean }} · mean {{ question.mean|number }} of {{ question.max_score|number }} points</h2>
<table>
<tr><th></th><th>What came of it</th><th class="number">Submissions</th><th class="number">Share</th></tr>
{%- for label, text, count in question.parts %}
<tr><td>{{ label }}</td><td>{{ text|clean }}</td><td class="number">{{ count }}</td>
<td class="number">{{ '%.0f'|format(100 * count / students|length) }} %</td></tr>
{%- endfor %}
</table>
</section>
{% endfor %}
<section>
<h2>Submissions</h2>
<table>
<tr><th>Student</th><th class="number">Points</th><th class="number">Seconds</th><th>Notes</th></tr>
{%- for one in students %}
<tr><td><a href="{{ one.href }}">{{ one.student|clean }}</a></td><td class="number">{{ one.score|number }}</td>
<td class="number">{{ '%.3f'|format(one.seconds) }}</td><td>{{ one.notes|join('; ')|clean }}</td></tr>
{%- endfor %}
</table>
</section>
{% endblock %}
"""

_LAB = """{% extends "frame" %}
{% block title %}How a class predicts{% endblock %}
{% block body %}
<h1>How a class predicts · {{ learners|length }} learner{{ 's' if learners|length > 1 }}</h1>
<p>From the files that learners made with <code>gradcourse progress --export</code> and handed in themselves. Of each
prediction the first that was measured counts; a question's tries are the checks until it passed.</p>
{% for title, address, alt in pictures %}
<section><h2>{{ title }}</h2><img src="{{ address }}" alt="{{ alt|clean }}"></section>
{% endfor %}
<section>
<h2>Questions, hardest first</h2>
<table>
<tr><th>Question</th><th class="number">Tried by</th><th class="number">Passed</th>
<th class="number">Tries until passed</th><th class="number">Hints</th></tr>
{%- for id, tried, passed, tries, hints in questions %}
<tr><td>{{ id }}</td><td class="number">{{ tried }}</td><td class="number">{{ passed }}</td>
<td class="number">{{ tries }}</td><td class="number">{{ hints }}</td></tr>
{%- endfor %}
</table>
</section>
<section>
<h2>Learners</h2>
<table>
<tr><th>Name</th><th class="number">Predictions</th><th class="number">Median score</th>
<th class="number">Questions passed</th></tr>
{%- for one in learners %}
<tr><td>{{ one.name|clean }}</td><td class="number">{{ one.predictions }}</td><td class="number">{{ one.score }}</td>
<td class="number">{{ one.questions }}</td></tr>
{%- endfor %}
</table>
</section>
{%- if left_out %}
<section>
<h2>Left out</h2>
<ul>
{%- for line in left_out %}
<li>{{ line|clean }}</li>
{%- endfor %}
</ul>
</section>
{%- endif %}
{% endblock %}
"""

# Control characters end a text early or reorder it; lone halves of a pair can't be written.
_UNSEEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]")
_LONGEST = 4000


def render(page, **values):
    """Return the text of the page "feedback", "summary" or "lab"."""
    return _templates().get_template(page).render(style=_STYLE, **values)


@functools.cache
def _templates():
    from jinja2 import DictLoader, Environment, StrictUndefined

    loader = DictLoader({"frame": _FRAME, "feedback": _FEEDBACK, "summary": _SUMMARY, "lab": _LAB})
    made = Environment(loader=loader, autoescape=True, undefined=StrictUndefined)
    made.filters |= {"clean": clean, "number": lambda value: f"{round(value, 2):g}"}
    return made


def clean(text):
    """Return a text without what is not to be seen, and not longer than a screen or two."""
    shown = _UNSEEN.sub("\N{REPLACEMENT CHARACTER}", str(text))
    return shown if len(shown) <= _LONGEST else shown[:_LONGEST] + " ..."
