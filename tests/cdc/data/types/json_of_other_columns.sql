CREATE TABLE o (id INT PRIMARY KEY, b BIT(9), bl BLOB, lb LONGBLOB, vb VARBINARY(9), bi BINARY(4), y YEAR, e ENUM('q', 'r'), ts TIMESTAMP(3) NULL, de DECIMAL(5,2), f FLOAT, t TIME(2));
INSERT INTO o VALUES (1, 257, x'0001', x'fe', x'ff', x'01', 1999, 'r', '2026-11-24 01:02:03.5', 1.5, 0.1, '-01:02:03.04');
CREATE TABLE t (id INT PRIMARY KEY, j JSON);
INSERT INTO t SELECT id, JSON_ARRAY(b, bl, lb, vb, bi, y, e, ts, de, f, t) FROM o;
