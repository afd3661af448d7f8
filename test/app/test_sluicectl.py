# SPDX-License-Identifier: BSD-3-Clause
"""Tests of usertools/sluicectl against a switch of commands only (ctl_server)."""

import json
import os
import pty
import signal
import socket
import subprocess
import threading
import time

import pytest

SLUICECTL = os.environ['SLUICECTL']
CTL_SERVER = os.environ['CTL_SERVER']


@pytest.fixture(name='switch')
def fixture_switch(tmp_path):
    """The path of a served control socket."""
    path = str(tmp_path / 'control.sock')
    with subprocess.Popen([CTL_SERVER, path], stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout.readline() == 'ready\n'
        yield path
        server.terminate()
    assert server.returncode in (0, -signal.SIGTERM)


def ctl(*args, socket_path=None, **kwargs):
    env = {k: v for k, v in os.environ.items() if k != 'SLUICE_SOCKET'}
    if socket_path:
        env['SLUICE_SOCKET'] = socket_path
    env.update(kwargs.pop('env', {}))
    return subprocess.run([SLUICECTL, *args], capture_output=True, text=True, env=env, timeout=30, check=False,
                          **kwargs)


def expect(result, status=0, out='', err=''):
    assert (result.returncode, result.stdout, result.stderr) == (status, out, err)


def test_prints_the_text(switch):
    expect(ctl('-s', switch, 'show', 'port', 'stats', 'all'), out='packets of (all)\n')
    expect(ctl('show port stats all', socket_path=switch), out='packets of (all)\n')
    expect(ctl('-s', switch, 'set', 'burst', '32'))


def test_prints_json(switch):
    answer = ctl('-s', switch, '-j', 'show', 'port', 'stats', 'all')
    assert json.loads(answer.stdout) == {'port': '(all)', 'packets': 7}
    assert json.loads(ctl('-s', switch, '--json', 'port', 'mac', 'x').stdout) == {'text': 'cleared 00\n'}


def test_words_stay_words(switch):
    expect(ctl('-s', switch, 'port', 'del', 'a "b" \\ \'c\''), 1,
           err='sluicectl: there is no port \'a "b" \\ \'c\'\'\n')
    expect(ctl('-s', switch, 'port', 'del', ''), 1, err="sluicectl: there is no port ''\n")
    expect(ctl('-s', switch, 'port', 'del', '#1'), 1, err="sluicectl: there is no port '#1'\n")
    expect(ctl('-s', switch, '--', 'port', 'del', '-s'), 1, err="sluicectl: there is no port '-s'\n")
    expect(ctl('-s', switch, 'port', 'del', 'é'), 1, err="sluicectl: there is no port 'é'\n")
    expect(ctl('-s', switch, 'port', 'del', b'\xe9'), 1, err='sluicectl: the command is not UTF-8\n')


def test_errors_are_one_line(switch):
    expect(ctl('-s', switch, 'prot', 'add'), 1,
           err="sluicectl: unknown command 'prot'; did you mean 'port'? ('help' lists all)\n")
    expect(ctl('-s', switch, 'grumble'), 1, out='half of it\n', err='sluicectl: the other half is missing\n')
    expect(ctl('-s', switch, '-j', 'grumble'), 1, err='sluicectl: the other half is missing\n')
    long = ctl('-s', switch, 'x' * 100000)
    expect(long, 1, err='sluicectl: a request is at most 65536 bytes long\n')


@pytest.mark.parametrize('args', [(), ('-j',), ('-f', 'x', 'help'), ('-t', '0', 'help'), ('-t', 'soon', 'help'),
                                  ('-w', '1', '-f', 'x'), ('-w', '1', '-'), ('--frob', 'help'), ('-s',)])
def test_wrong_usage(args):
    result = ctl(*args)
    assert result.returncode == 2
    assert result.stdout == ''
    assert result.stderr.startswith('usage: sluicectl')


def test_help_needs_no_switch():
    result = ctl('--help')
    assert result.returncode == 0
    assert 'Exit status' in result.stdout


def test_no_switch(tmp_path):
    path = str(tmp_path / 'none.sock')
    expect(ctl('-s', path, 'help'), 3, err=f'sluicectl: no switch is listening at {path}: is sluice running? '
                                           '(-s or SLUICE_SOCKET names another socket)\n')
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(path)
    assert ctl('-s', path, 'help').stderr.startswith(f'sluicectl: no switch is listening at {path}: ')
    os.unlink(path)
    with open(path, 'w', encoding='ascii'):
        assert ctl('-s', path, 'help').returncode == 3
    result = ctl('-s', '/' + 'x' * 200, 'help')
    assert result.returncode == 3
    assert result.stderr.count('\n') == 1


def fake_switch(path, answer):
    """Answers one client's first request with these bytes (None: never) and closes."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen()

    def serve():
        with listener, listener.accept()[0] as conn:
            conn.recv(65536)
            if answer is None:
                conn.recv(1)
            else:
                conn.sendall(answer)
    thread = threading.Thread(target=serve)
    thread.start()
    return thread


@pytest.mark.parametrize('answer,error', [
    (b'', 'the switch at {} closed the connection without an answer'),
    (b'{"jsonrpc":"2.0","id":1,"resu', 'the switch at {} closed the connection without an answer'),
    (b'HTTP/1.1 400 Bad Request\n', '{} does not speak our protocol: is it a sluice?'),
    (b'[]\n', '{} does not speak our protocol: is it a sluice?'),
    (b'{"id":7,"result":{}}\n', '{} gave an answer to something else: is it a sluice?'),
    (None, 'no answer from {} within 0.2 s (-t gives it more)'),
])
def test_strange_switches(tmp_path, answer, error):
    path = str(tmp_path / 'fake.sock')
    thread = fake_switch(path, answer)
    expect(ctl('-s', path, '-t', '0.2', 'help'), 3, err='sluicectl: ' + error.format(path) + '\n')
    thread.join()


def test_a_busy_switch_times_out(switch):
    expect(ctl('-s', switch, '-t', '0.2', 'doze', '1000'), 3,
           err=f'sluicectl: no answer from {switch} within 0.2 s (-t gives it more)\n')
    expect(ctl('-s', switch, '-t', '5', 'doze', '500'))


def test_files_stop_at_the_first_error(switch, tmp_path):
    file = tmp_path / 'commands'
    file.write_text('# first\n\nport mac vm1\r\n  # and\nshow port stats all\n', encoding='ascii')
    expect(ctl('-s', switch, '-f', str(file)), out='cleared 00\npackets of (all)\n')
    file.write_text('port mac vm1\n\nport mak vm1\nport mac vm1\n', encoding='ascii')
    expect(ctl('-s', switch, '-f', str(file)), 1, out='cleared 00\n',
           err=f"sluicectl: {file}:3: port: expected 'add', 'del', 'show' or 'mac', got 'mak'\n")
    expect(ctl('-s', switch, '-', input='port mac vm1\nnope'), 1, out='cleared 00\n',
           err="sluicectl: <stdin>:2: unknown command 'nope' ('help' lists all)\n")
    expect(ctl('-s', switch, '-', input=''))
    expect(ctl('-s', switch, '-f', '/none'), 1, err='sluicectl: /none: No such file or directory\n')
    expect(ctl('-s', switch, 'commands', str(file)), 1, out='cleared 00\n',
           err=f"sluicectl: {file}:3: port: expected 'add', 'del', 'show' or 'mac', got 'mak'\n")


def test_quit_is_answered(switch):
    expect(ctl('-s', switch, 'quit'))
    deadline = time.monotonic() + 5
    while os.path.exists(switch) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert ctl('-s', switch, 'help').returncode == 3


def test_many_at_once(switch):
    held = [socket.socket(socket.AF_UNIX) for _ in range(64)]
    for sock in held:
        sock.connect(switch)
    expect(ctl('-s', switch, 'help'), 1,
           err='sluicectl: 64 clients are connected already: close one, then try again\n')
    for sock in held:
        sock.close()
    assert ctl('-s', switch, 'help').returncode == 0


def test_large_answers_and_closed_pipes(switch):
    assert len(ctl('-s', switch, 'blob', '50000').stdout) == 50000 * 64
    result = subprocess.run(f'{SLUICECTL} -s {switch} blob 50000 | head -1', shell=True, capture_output=True,
                            timeout=30, check=False)
    assert (len(result.stdout), result.stderr) == (64, b'')


def test_watch_repeats(switch):
    with subprocess.Popen([SLUICECTL, '-s', switch, '-w', '0.1', 'port', 'mac', 'x'], stdout=subprocess.PIPE,
                          text=True) as watch:
        for _ in range(3):
            assert watch.stdout.readline() == 'cleared 00\n'
        watch.send_signal(signal.SIGINT)
        assert watch.wait(5) == 0


def test_watch_clears_a_terminal(switch):
    master, slave = pty.openpty()
    with subprocess.Popen([SLUICECTL, '-s', switch, '-w', '0.1', 'port', 'mac', 'x'], stdout=slave) as watch:
        seen = b''
        while seen.count(b'\033[H\033[2Jevery 0.1 s: port mac x') < 2:
            seen += os.read(master, 4096)
        watch.send_signal(signal.SIGINT)
        assert watch.wait(5) == 0
    os.close(master)
    os.close(slave)


def complete(switch, line, current=None):
    """What bash gets for a line with the cursor at its end."""
    current = line.split(' ')[-1] if current is None else current
    result = ctl('--complete', 'sluicectl', current, 'previous', socket_path=switch,
                 env={'COMP_LINE': line, 'COMP_POINT': str(len(line.encode()))})
    assert result.returncode == 0
    assert result.stderr == ''
    return result.stdout.split()


def test_completion(switch):
    assert complete(switch, 'sluicectl po') == ['port']
    assert complete(switch, 'sluicectl port ') == ['add', 'del', 'mac', 'show']
    assert complete(switch, 'sluicectl -j -t 3 port show v') == ['vm1', 'vm2']
    assert complete(switch, 'sluicectl port show 0000:00:0', '0') == ['04.0']  # bash splits words at :
    assert complete(switch, 'sluicectl port add é listen x q', 'q') == ['queues']
    assert complete(switch, 'sluicectl -s') == []
    assert complete(switch, 'sluicectl -s ') == []
    assert complete(switch, 'sluicectl -s /ru') == []
    assert complete(switch, 'sluicectl') == []
    assert complete('/none', f'sluicectl -s {switch} set f') == ['fwd']
    assert complete('/none', f'sluicectl --socket="{switch}" set f') == ['fwd']
    assert complete('/none', 'sluicectl set f') == []


def test_completion_in_bash(switch):
    """As the manual page says to set it up, with Tab typed on a terminal."""
    master, slave = pty.openpty()
    env = {**os.environ, 'SLUICE_SOCKET': switch, 'PATH': os.path.dirname(SLUICECTL) + ':' + os.environ['PATH'],
           'PS1': '$ ', 'TERM': 'dumb'}
    with subprocess.Popen(['bash', '--norc', '--noprofile', '-i'], stdin=slave, stdout=slave, stderr=slave, env=env,
                          start_new_session=True) as bash:
        os.write(master, b"complete -C 'sluicectl --complete' sluicectl\n")
        os.write(master, b'sluicectl set fwd rxo\t\n')
        seen = b''
        deadline = time.monotonic() + 10
        while b'set fwd rxonly' not in seen and time.monotonic() < deadline:
            seen += os.read(master, 4096)
        os.write(master, b'exit 7\n')
        assert bash.wait(10) == 7
    os.close(master)
    os.close(slave)
    assert b'sluicectl set fwd rxonly' in seen
