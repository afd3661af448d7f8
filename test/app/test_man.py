# SPDX-License-Identifier: BSD-3-Clause
"""Tests of doc/gen-man and of the manual pages it writes."""

import json
import os
import re
import shutil
import subprocess
import sys

import pytest

DOC = os.environ['DOC']
SLUICECTL = os.environ['SLUICECTL']
SLUICE = os.environ['SLUICE']  # the switch, or something else that has --dump-commands

HELP = """Usage: sluice [options]

  -i, --interactive      read commands from
                         standard input
      --file FILE[,X]    it's one of 'a', \\b or -c
      --last             the last

Engines: --none
"""


def output(*command):
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout


@pytest.fixture(name='page')
def fixture_page(tmp_path):
    """Makes a page of a frame and a table, and returns it."""
    def make(frame, table, options=HELP):
        paths = [tmp_path / name for name in ('frame', 'table', 'options')]
        for path, text in zip(paths, (frame, json.dumps(table), options)):
            path.write_text(text, encoding='utf-8')
        return output(sys.executable, f'{DOC}/gen-man', str(paths[0]), '--commands', str(paths[1]), '--options',
                      str(paths[2]))
    return make


def render(page):
    """The page as text; fails if groff has a warning."""
    if not shutil.which('groff'):
        pytest.skip('groff is not installed')
    result = subprocess.run(['groff', '-man', '-ww', '-Tutf8', '-P-cbou', '-rLL=200n'], input=page, capture_output=True,
                            text=True, check=True, timeout=30)
    assert result.stderr == ''
    return result.stdout.replace('\u2212', '-').replace('\u2010', '-').replace('\u2019', "'")


def table(*commands):
    return {'version': '1.2', 'groups': [{'title': 'Group', 'commands': list(commands)}]}


def test_grammar_is_marked_up(page):
    text = page('@COMMANDS@\n', table({'grammar': 'port-x add NAME dev DEV-ARGS... [n N:1..8|M:hex] (all|A:PORT)',
                                       'help': 'add a `port`'}))
    assert text == ('.SS Group\n.TP\n'
                    '\\fBport\\-x\\fR \\fBadd\\fR \\fINAME\\fR \\fBdev\\fR \\fIDEV\\-ARGS\\fR... '
                    '[\\fBn\\fR \\fIN\\fR:1..8|\\fIM\\fR:hex] (\\fBall\\fR|\\fIA\\fR:PORT)\n'
                    'Add a \\fBport\\fR.\n')


def test_text_cannot_be_markup(page):
    text = page('.TH T 1 "" "v @VERSION@"\n.SH COMMANDS\n@COMMANDS@\n',
                table({'grammar': 'a', 'help': '.SH is \\fBnot\\fR -x',
                       'description': "'quoted\n.and dotted\n\n\n\n.second"}))
    text = render(text)
    for expected in ('v 1.2', '.SH is \\fBnot\\fR -x.', "'quoted .and dotted\n\n", '  .second\n'):
        assert expected in text


def test_options_come_from_the_help(page):
    text = render(page('.TH T 1 "" "x"\n.SH OPTIONS\n@OPTIONS@\n', table()))
    text = re.sub(r'\s+', ' ', text)
    for expected in ('-i, --interactive Read commands from standard input.',
                     "--file FILE[,X] It's one of 'a', \\b or -c.", '--last The last.'):
        assert expected in text
    assert '--none' not in text


@pytest.fixture(name='real_page')
def fixture_real_page(page):
    dump = json.loads(output(SLUICE, '--dump-commands'))
    options = output(SLUICE, '--help') if os.path.basename(SLUICE) == 'sluice' else HELP

    def make(name):
        with open(f'{DOC}/{name}.in', encoding='utf-8') as f:
            return render(page(f.read(), dump, options)), dump
    return make


@pytest.mark.parametrize('name', ['sluice.8', 'sluicectl.1'])
def test_pages_have_every_command(real_page, name):
    text, dump = real_page(name)
    assert '@' not in text
    for group in dump['groups']:
        assert group['title'] in text
        for command in group['commands']:
            assert command['grammar'] in text


def test_page_of_sluicectl_has_every_option(real_page):
    text, _ = real_page('sluicectl.1')
    options = re.findall(r'^  (-\w)\b.*?(--\w+)', output(SLUICECTL, '--help'), re.MULTILINE)
    assert len(options) == 6
    for short, long in options:
        assert f'{short}, {long}' in text
