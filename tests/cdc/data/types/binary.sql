CREATE TABLE t (id INT PRIMARY KEY, b BINARY(6), long_b BINARY(255), vb VARBINARY(20), vb2 VARBINARY(300), tb TINYBLOB, bl BLOB, mb MEDIUMBLOB, lb LONGBLOB);
INSERT INTO t VALUES (1, x'0102', x'ff', x'00ff10', REPEAT(x'fe', 300), x'fffe00', x'fffe00', REPEAT('z', 70000), REPEAT(x'ed', 70000));
INSERT INTO t VALUES (2, x'000000000000', '', '', '', '', '', '', '');
INSERT INTO t VALUES (3, x'416200000000', x'20', x'2020', x'00', x'00', x'00', x'00', x'00');
